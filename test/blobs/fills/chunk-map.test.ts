import { describe, expect, it } from 'vitest';

import { type Chunk, ChunkMap } from '../../../src/blobs/fills/chunk-map.ts';
import { seededRandom } from '../../helpers/seeded-random.ts';

const KIB = 1024;
const CHUNK_BYTES = 512 * KIB;

function fill(map: ChunkMap, chunk: Chunk | undefined): void {
  if (chunk === undefined) throw new Error('there is a chunk');
  map.markFilled({ start: chunk.filledEnd, end: chunk.end });
  map.release(chunk);
}

describe('ChunkMap', () => {
  it('claims wanted chunks first, then missing ones from the start', () => {
    const map = new ChunkMap(4 * CHUNK_BYTES + 1, CHUNK_BYTES);
    const wanted = [{ start: 2 * CHUNK_BYTES + 5, end: 2 * CHUNK_BYTES + 6 }];
    const starts = Array.from({ length: 6 }, () => map.claimNext(wanted)?.start);
    expect(starts).toEqual([2, 0, 1, 3, 4, undefined].map((place) => place && place * CHUNK_BYTES));
  });

  it('cuts the wanted part out of its chunk, and claims the rest later', () => {
    const map = new ChunkMap(CHUNK_BYTES, CHUNK_BYTES);
    const wanted = [{ start: 130 * KIB, end: 190 * KIB }];
    const middle = map.claimWanted(wanted);
    expect(middle).toMatchObject({ start: 128 * KIB, end: 192 * KIB });
    expect(map.claimWanted(wanted)).toBeUndefined();
    fill(map, middle);
    expect(map.availableEnd(128 * KIB, CHUNK_BYTES)).toBe(192 * KIB);
    expect(map.prefixEnd).toBe(0);
    expect(map.claimNext([])).toMatchObject({ start: 0, end: 128 * KIB });
    expect(map.claimNext([])).toMatchObject({ start: 192 * KIB, end: CHUNK_BYTES });
  });

  it('has pieces of an earlier fill as separate chunks, held but not yet verified', () => {
    const stored = [{ start: 100, end: CHUNK_BYTES + 7, crc32: 1 }];
    const map = new ChunkMap(2 * CHUNK_BYTES, CHUNK_BYTES, stored);
    expect(map.heldBytes).toBe(CHUNK_BYTES - 93);
    expect(map.availableEnd(100, 200)).toBe(100);
    const [before, left, after] = [map.claimNext([]), map.claimNext([]), map.claimNext([])];
    expect([before?.start, left?.start, after?.start]).toEqual([0, 100, CHUNK_BYTES + 7]);
    expect(left?.stored).toEqual(stored[0]);
    fill(map, left);
    expect(map.availableEnd(100, CHUNK_BYTES * 2)).toBe(CHUNK_BYTES + 7);
    fill(map, before);
    expect(map.prefixEnd).toBe(CHUNK_BYTES + 7);
    fill(map, after);
    expect(map.isComplete).toBe(true);
  });

  it.each([1, 2, 3, 4])('claims each byte once, in any order of calls (seed %i)', (seed) => {
    const random = seededRandom(seed);
    const sizeBytes = 5 * CHUNK_BYTES + Math.floor(random() * CHUNK_BYTES);
    const map = new ChunkMap(sizeBytes, CHUNK_BYTES, [{ start: 70_000, end: 1_000_000, crc32: 0 }]);
    const given: Chunk[] = [];
    for (let turn = 0; turn < 400 && !map.isComplete; turn++) {
      const start = Math.floor(random() * sizeBytes);
      const range = { start, end: Math.min(sizeBytes, start + 1 + Math.floor(random() * 300_000)) };
      const way = Math.floor(random() * 3);
      const chunk =
        way === 0 ? map.claimAt(start) : way === 1 ? map.claimWanted([range]) : map.claimNext([range]);
      if (chunk === undefined) continue;
      given.push(chunk);
      fill(map, chunk);
      expect(map.heldBytes).toBeLessThanOrEqual(sizeBytes);
    }
    expect(map.isComplete).toBe(true);
    expect(map.heldBytes).toBe(sizeBytes);
    const inOrder = given.toSorted((a, b) => a.start - b.start);
    let end = 0;
    for (const chunk of inOrder) {
      expect(chunk.start).toBe(end);
      end = chunk.end;
    }
    expect(end).toBe(sizeBytes);
  });
});
