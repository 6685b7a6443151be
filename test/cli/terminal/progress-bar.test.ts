import { describe, expect, it } from 'vitest';

import { describeProgress } from '../../../src/cli/terminal/progress-bar.ts';

function draw(doneBytes: number, totalBytes: number | undefined): string {
  return describeProgress('indexing', { doneBytes, totalBytes, elapsedMs: 2000 });
}

describe('describeProgress', () => {
  it('shows no share of a total that is not known', () => {
    expect(draw(0, undefined)).toBe('indexing ...');
    expect(draw(1_500_000, undefined)).toBe('indexing 1.5 MB');
    expect(draw(0, 0)).toBe('indexing ...');
  });

  it('shows share and rate of a known total, and 100 % only at its end', () => {
    expect(draw(0, 10_000_000)).toBe(`indexing [${'.'.repeat(30)}] 0 % 0 MB/s`);
    expect(draw(9_999_999, 10_000_000)).toContain('] 99 % 5 MB/s');
    expect(draw(10_000_000, 10_000_000)).toBe(`indexing [${'#'.repeat(30)}] 100 % 5 MB/s`);
  });
});
