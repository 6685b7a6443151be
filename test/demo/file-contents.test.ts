import { gzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { type ContentKind, FileContents } from '../../src/demo/file-contents.ts';
import { Random } from '../../src/demo/random.ts';

function content(kind: ContentKind, bytes: number, seed = 'content'): Buffer {
  return Buffer.concat([...new FileContents(new Random('words')).read(kind, bytes, new Random(seed))]);
}

describe('FileContents', () => {
  it.each<[ContentKind, number, number]>([
    ['source', 4, 5.5],
    ['json', 5, 8],
    ['binary', 1.8, 2.6],
    ['weights', 1.02, 1.3],
    ['packed', 0.99, 1.001],
  ])('makes %s that gzip shrinks by a factor between %d and %d', (kind, least, most) => {
    const bytes = content(kind, 1_000_000);
    const ratio = bytes.length / gzipSync(bytes).length;
    expect(ratio).toBeGreaterThan(least);
    expect(ratio).toBeLessThan(most);
  });

  it.each<ContentKind>(['source', 'json', 'binary', 'weights', 'packed'])(
    'makes %s of exactly the requested size',
    (kind) => {
      for (const bytes of [0, 1, 3, 511, 65_535, 65_536, 65_537, 200_000])
        expect(content(kind, bytes)).toHaveLength(bytes);
    },
  );

  it('makes the same bytes from the same seed, and others from another', () => {
    expect(content('source', 100_000).equals(content('source', 100_000))).toBe(true);
    expect(content('source', 100_000).equals(content('source', 100_000, 'other'))).toBe(false);
  });

  it('makes JSON that parses, line by line', () => {
    const lines = content('json', 100_000).toString().split('\n').slice(0, -1);
    expect(lines.length).toBeGreaterThan(500);
    const parsed = lines.map((line) => JSON.parse(line) as object);
    expect(parsed[0]).toHaveProperty('id');
  });

  it('yields chunks of at most 64 KiB', () => {
    const chunks = [...new FileContents(new Random('words')).read('binary', 300_000, new Random('x'))];
    expect(chunks.map((chunk) => chunk.length)).toEqual([65_536, 65_536, 65_536, 65_536, 37_856]);
  });
});
