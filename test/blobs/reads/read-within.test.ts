import { describe, expect, it } from 'vitest';

import { readWithin } from '../../../src/blobs/reads/read-within.ts';

const BLOB = Buffer.from('0123456789abcdef');

/** A body of `[start, end)` of the blob in pieces, which notes how many pieces were read. */
function bodyOf(
  start: number,
  end: number,
  pieceBytes: number,
): { body: AsyncIterable<Buffer>; read: number[] } {
  const read: number[] = [];
  async function* pieces(): AsyncGenerator<Buffer, void, undefined> {
    for (let at = start; at < end; at += pieceBytes) {
      read.push(at);
      yield BLOB.subarray(at, Math.min(end, at + pieceBytes));
    }
    read.push(end);
  }
  return { body: pieces(), read };
}

async function drain(parts: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of parts);
}

describe('readWithin', () => {
  it.each([
    [0, 16, 0, 16],
    [0, 16, 3, 9],
    [0, 16, 15, 16],
    [4, 12, 4, 12],
    [4, 8, 4, 12],
    [0, 16, 5, 5],
  ])(
    'readWithin returns of a response with [%d, %d) exactly the bytes in [%d, %d)',
    async (start, end, from, to) => {
      for (const pieceBytes of [1, 3, 16]) {
        const { body } = bodyOf(start, end, pieceBytes);
        const parts: Buffer[] = [];
        let next = from;
        for await (const { bytes, position } of readWithin(
          { body, range: { start, end } },
          { start: from, end: to },
        )) {
          expect(position).toBe(next);
          next += bytes.byteLength;
          parts.push(bytes);
        }
        expect(Buffer.concat(parts).equals(BLOB.subarray(from, Math.min(end, to)))).toBe(true);
      }
    },
  );

  it('readWithin leaves the rest of a longer response unread, and reads others to their end', async () => {
    const longer = bodyOf(0, 16, 4);
    await drain(readWithin({ body: longer.body, range: { start: 0, end: 16 } }, { start: 2, end: 7 }));
    expect(longer.read).toEqual([0, 4]);
    const exact = bodyOf(4, 12, 4);
    await drain(readWithin({ body: exact.body, range: { start: 4, end: 12 } }, { start: 4, end: 12 }));
    expect(exact.read).toEqual([4, 8, 12]);
  });
});
