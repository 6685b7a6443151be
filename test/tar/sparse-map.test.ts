import { describe, expect, it } from 'vitest';

import type { RawText } from '../../src/tar/raw-text.ts';
import { MAX_SPECIAL_BYTES, SparseDataMap } from '../../src/tar/sparse-map.ts';

const BLOCK_BYTES = 512;
const invalid = expect.objectContaining({ code: 'TAR_INVALID' }) as Error;

function blocks(text: string): RawText[] {
  const count = Math.ceil(text.length / BLOCK_BYTES);
  return Array.from(
    { length: count },
    (_, index) =>
      text.slice(BLOCK_BYTES * index, BLOCK_BYTES * (index + 1)).padEnd(BLOCK_BYTES, '\0') as RawText,
  );
}

function readMap(text: string, size = 2 ** 40): number {
  const map = new SparseDataMap(size);
  const parts = blocks(text);
  return 1 + parts.findIndex((block) => map.take(block));
}

describe('the map of a sparse file', () => {
  it('the map of a sparse file may span several blocks', () => {
    const regions = Array.from({ length: 300 }, (_, index) => `${1000 * index}\n10\n`);
    expect(readMap(`300\n${regions.join('')}`)).toBe(Math.ceil((4 + regions.join('').length) / BLOCK_BYTES));
  });

  it.each([
    ['regions out of order', '2\n100\n10\n0\n10\n'],
    ['regions that overlap', '2\n0\n10\n5\n10\n'],
    ['a region behind the end of the file', `1\n${2 ** 40}\n1\n`],
    ['a negative number of regions', '-1\n'],
    ['numbers that are none', '1\nx\n1\n'],
  ])('the map of a sparse file is refused with %s', (_, text) => {
    expect(() => readMap(text)).toThrow(invalid);
  });

  it.each([
    ['no end', '1'.repeat(MAX_SPECIAL_BYTES + 1)],
    ['more regions than it may have', `9999999\n${'1\n'.repeat(MAX_SPECIAL_BYTES / 2)}`],
  ])('the map of a sparse file is refused with %s, after a megabyte', (_, text) => {
    const map = new SparseDataMap(2 ** 40);
    const parts = blocks(text);
    const most = MAX_SPECIAL_BYTES / BLOCK_BYTES;
    expect(parts.slice(0, most).some((block) => map.take(block))).toBe(false);
    expect(() => map.take(parts[most] ?? ('' as RawText))).toThrow(invalid);
  });
});
