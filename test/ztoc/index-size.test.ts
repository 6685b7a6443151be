import { statSync } from 'node:fs';

import { beforeAll, describe, expect, it } from 'vitest';

import { inflateSpans } from '../../src/spans/span-worker.ts';
import { buildFromBytes } from '../helpers/layers/built-layer.ts';
import { runProgramSync } from '../helpers/programs.ts';
import { seededRandom } from '../helpers/seeded-random.ts';

const SEED = 17;
const TAR_BYTES = 24_000_000;
const MAX_SHARE = 0.025;
const SPANS = { spanBytes: 4 * 2 ** 20, readSpanBytes: 256 * 1024 };

/** Present in every checkout: thousands of source files and some machine code. */
const MODULES = new URL('../../node_modules', import.meta.url).pathname;

let tar: Buffer;

beforeAll(() => {
  const script = `tar --create --directory "$0" . 2>/dev/null | head --bytes ${TAR_BYTES}`;
  tar = runProgramSync('sh', ['-c', script, MODULES]);
  if (tar.length !== TAR_BYTES) throw new Error(`only ${tar.length} bytes of node_modules`);
});

describe('the index of a real layer', () => {
  it.each([
    ['gzip', '-1'],
    ['gzip', '-6'],
    ['gzip', '-9'],
    ['pigz', '-6'],
  ] as const)(
    'the index of a layer compressed by %s %s takes at most 2.5 %% of it, and each span is readable on its own',
    async (command, level) => {
      const layer = runProgramSync(command, [level, '-c'], { input: tar });
      await using built = await buildFromBytes(layer, { compression: 'gzip', ...SPANS, chunkBytes: 262_144 });
      expect(statSync(built.indexPath).size / TAR_BYTES).toBeLessThan(MAX_SHARE);
      const spans = await built.index.readSpans({ start: 0, end: TAR_BYTES });
      expect(spans.length).toBeGreaterThan(40);
      const random = seededRandom(SEED);
      for (let round = 0; round < 20; round++) {
        const first = Math.floor(random() * spans.length);
        const run = spans.slice(first, first + 1 + (round % 3));
        const [span] = run;
        if (span === undefined) throw new Error('no such span');
        const compressed = layer.subarray(span.compressed.start, run.at(-1)?.compressed.end);
        const { value } = inflateSpans({
          engine: 'wasm',
          spans: run,
          compressed,
          bits: span.bits,
          window: built.index.window(span),
        });
        const wanted = tar.subarray(span.uncompressed.start, run.at(-1)?.uncompressed.end);
        expect(Buffer.concat(value).equals(wanted), `seed ${SEED}, spans from ${first} on`).toBe(true);
      }
    },
  );
});
