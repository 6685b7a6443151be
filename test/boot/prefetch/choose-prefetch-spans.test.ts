import { describe, expect, it } from 'vitest';

import { choosePrefetchSpans, type LocatedLayer } from '../../../src/boot/prefetch/choose-prefetch-spans.ts';
import { digestOf } from '../../../src/core/digest.ts';
import type { SpanRun } from '../../../src/soci/plan-prefetch.ts';
import { parseRawText } from '../../../src/tar/raw-text.ts';

type Runs = Readonly<Record<string, SpanRun>>;

function layer(name: string, spanSizes: readonly number[], files: Runs, cleaned: Runs = files): LocatedLayer {
  const byPath = (runs: Runs): LocatedLayer['files'] =>
    new Map(Object.entries(runs).map(([path, run]) => [parseRawText(path), run]));
  return { digest: digestOf(name), files: byPath(files), cleaned: byPath(cleaned), spanSizes };
}

function choose(
  paths: readonly string[],
  layers: readonly LocatedLayer[],
  maxBytes: number,
): ReturnType<typeof choosePrefetchSpans> {
  return choosePrefetchSpans(paths.map(parseRawText), layers, maxBytes);
}

const UPPER = layer('upper', [10, 20, 30], { a: { first: 0, last: 0 }, b: { first: 0, last: 2 } });
const LOWER = layer('lower', [5, 5], { a: { first: 1, last: 1 }, c: { first: 1, last: 1 } });

describe('choosePrefetchSpans', () => {
  it('takes files from the uppermost layer that has them; a span counts once', () => {
    const { runs, bytes } = choose(['a', 'b', 'c', 'none'], [UPPER, LOWER], 1000);
    expect(bytes).toBe(65);
    expect(runs.get(UPPER.digest)).toEqual([
      { first: 0, last: 0 },
      { first: 0, last: 2 },
    ]);
    expect(runs.get(LOWER.digest)).toEqual([{ first: 1, last: 1 }]);
  });

  it('leaves out a file that does not fit, and takes later ones that do', () => {
    const { runs, bytes } = choose(['b', 'a', 'c'], [UPPER, LOWER], 15);
    expect(bytes).toBe(15);
    expect(runs.get(UPPER.digest)).toEqual([{ first: 0, last: 0 }]);
    expect(runs.get(LOWER.digest)).toEqual([{ first: 1, last: 1 }]);
    expect(choose(['a', 'b'], [UPPER, LOWER], 60).bytes).toBe(60);
  });

  it('looks files up by their exact names first', () => {
    const dotted = layer('dotted', [7], {}, { a: { first: 0, last: 0 }, d: { first: 0, last: 0 } });
    expect([...choose(['a'], [dotted, LOWER], 100).runs.keys()]).toEqual([LOWER.digest]);
    expect([...choose(['d'], [dotted, LOWER], 100).runs.keys()]).toEqual([dotted.digest]);
  });

  it('chooses nothing of nothing', () => {
    expect(choose(['a'], [], 100)).toEqual({ runs: new Map(), bytes: 0 });
  });
});
