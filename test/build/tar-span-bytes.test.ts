import { describe, expect, it } from 'vitest';

import { chooseTarSpanBytes, likelyTarSpanBytes } from '../../src/build/tar/tar-span-bytes.ts';

const [KIB, MIB, GIB] = [2 ** 10, 2 ** 20, 2 ** 30];

describe('the span size of a tar', () => {
  it.each([
    [1, 256 * KIB],
    [GIB, 256 * KIB],
    [GIB + 1, MIB],
    [4 * GIB, MIB],
    [4 * GIB + 1, 4 * MIB],
    [64 * GIB, 4 * MIB],
  ])('for %i bytes is %i by itself', (tarBytes, spanBytes) => {
    expect(chooseTarSpanBytes('auto', tarBytes)).toBe(spanBytes);
  });

  it('is a quarter where it is to tell which files starts read', () => {
    for (let tarBytes = MIB; tarBytes <= 16 * GIB; tarBytes *= 1.1) {
      const spanBytes = chooseTarSpanBytes('fine', tarBytes);
      expect(spanBytes * 4).toBe(chooseTarSpanBytes('auto', tarBytes));
      expect(likelyTarSpanBytes('fine', tarBytes / 3, 'gzip')).toContain(spanBytes);
    }
  });

  it('two spans a second are all spans of up to 16 GiB within 35 minutes', () => {
    for (let tarBytes = MIB; tarBytes <= 16 * GIB; tarBytes *= 1.1)
      expect(tarBytes / chooseTarSpanBytes('auto', tarBytes) / 2).toBeLessThan(35 * 60);
  });

  it('is the configured one whatever the size of the tar', () => {
    expect(chooseTarSpanBytes(64 * KIB, 8 * GIB)).toBe(64 * KIB);
    expect(likelyTarSpanBytes(64 * KIB, 8 * GIB, 'gzip')).toEqual([64 * KIB]);
  });

  it('is hashed in the first pass for all sizes that usual ratios of compression lead to', () => {
    for (let layerBytes = 1000; layerBytes < 10 * GIB; layerBytes *= 1.3)
      for (const ratio of [1, 1.5, 3, 7.9])
        expect(likelyTarSpanBytes('auto', layerBytes, 'gzip')).toContain(
          chooseTarSpanBytes('auto', ratio * layerBytes),
        );
  });

  it('is hashed for one size alone where the layer is small, large, or a tar', () => {
    expect(likelyTarSpanBytes('auto', 60 * MIB, 'gzip')).toEqual([256 * KIB]);
    expect(likelyTarSpanBytes('auto', 5 * GIB, 'zstd')).toEqual([4 * MIB]);
    expect(likelyTarSpanBytes('auto', 2 * GIB, 'none')).toEqual([MIB]);
  });
});
