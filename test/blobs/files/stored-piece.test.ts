import { describe, expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import {
  formatMapHead,
  formatPiece,
  parseMap,
  type StoredPiece,
} from '../../../src/blobs/files/stored-piece.ts';
import { seededRandom } from '../../helpers/seeded-random.ts';

const SIZE = 200;
const digest = digestOf('blob');
const head = formatMapHead(digest, SIZE);

function linesOf(pieces: readonly StoredPiece[]): string {
  return pieces.map((piece) => formatPiece(piece)).join('');
}

describe('a chunk map', () => {
  it('is parsed as it was written, sorted by position', () => {
    const [a, b] = [
      { start: 100, end: 150, crc32: 0xffffffff },
      { start: 0, end: 100, crc32: 0 },
    ];
    expect(parseMap(head + linesOf([a, b]), digest)).toEqual({ sizeBytes: SIZE, pieces: [b, a] });
  });

  it.each([
    ['of another blob', formatMapHead(digestOf('other'), SIZE)],
    ['with a torn head', head.slice(0, -3)],
    ['with a changed head', head.replace(` ${SIZE} `, ` ${SIZE + 1} `)],
    ['that is empty', ''],
    ['of zeros', '\0'.repeat(100)],
  ])('%s is refused', (_what, text) => {
    expect(parseMap(text, digest)).toBeUndefined();
  });

  it('loses only the damaged line', () => {
    const pieces = [
      { start: 0, end: 10, crc32: 1 },
      { start: 10, end: 20, crc32: 2 },
      { start: 20, end: 30, crc32: 3 },
    ];
    const lines = pieces.map((piece) => formatPiece(piece));
    const second = lines[1] ?? '';
    for (let place = 0; place < second.length - 1; place++) {
      const damaged = `${second.slice(0, place)}#${second.slice(place + 1)}`;
      const parsed = parseMap(head + (lines[0] ?? '') + damaged + (lines[2] ?? ''), digest);
      expect(parsed?.pieces).toEqual([pieces[0], pieces[2]]);
    }
  });

  it('ignores pieces outside the blob and empty ones', () => {
    const outside = { start: SIZE - 1, end: SIZE + 1, crc32: 1 };
    const empty = { start: 5, end: 5, crc32: 1 };
    expect(parseMap(head + linesOf([outside, empty]), digest)?.pieces).toEqual([]);
  });

  it.each([1, 2, 3, 4, 5])('uses for each byte the line that was written last (seed %i)', (seed) => {
    const random = seededRandom(seed);
    const written = Array.from({ length: 60 }, (_, line) => {
      const start = Math.floor(random() * (SIZE - 1));
      return { start, end: start + 1 + Math.floor(random() * Math.min(40, SIZE - start - 1)), crc32: line };
    });
    const lastWriter = new Map<number, number>();
    for (const { start, end, crc32 } of written)
      for (let byte = start; byte < end; byte++) lastWriter.set(byte, crc32);
    const pieces = parseMap(head + linesOf(written), digest)?.pieces ?? [];
    expect(pieces.length).toBeGreaterThan(0);
    for (const [place, piece] of pieces.entries()) {
      expect(piece.start).toBeGreaterThanOrEqual(pieces[place - 1]?.end ?? 0);
      for (let byte = piece.start; byte < piece.end; byte++) expect(lastWriter.get(byte)).toBe(piece.crc32);
    }
    // The newest line always counts.
    expect(pieces).toContainEqual(written.at(-1));
  });
});
