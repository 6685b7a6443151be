import { randomBytes } from 'node:crypto';

import { describe, expect, it } from 'vitest';

import type { ByteRange } from '../../../src/core/byte-range.ts';
import { multipartResponse } from '../../../src/http/responses/multipart-response.ts';
import type { Content } from '../../../src/images/contents/content.ts';
import { parseMultipart } from '../../oracles/parse-multipart.ts';
import { seededRandom } from '../../helpers/seeded-random.ts';

const SEED = Number(process.env['SPANDREL_TEST_SEED'] ?? 31);
const BYTES = randomBytes(1_000_000);

interface Sent {
  readonly parts: readonly { readonly range: ByteRange; readonly bytes: Buffer }[];
  readonly pieces: readonly number[];
  readonly reads: readonly ByteRange[];
  readonly lengthHeader: unknown;
}

/**
 * What is sent of `BYTES`, which come in pieces of `pieceBytes` from one buffer that is filled again and
 * again.
 */
async function send(ranges: readonly ByteRange[], pieceBytes: number, maxGapBytes?: number): Promise<Sent> {
  const reads: ByteRange[] = [];
  const lent = Buffer.alloc(pieceBytes);
  const content: Content = {
    sizeBytes: BYTES.byteLength,
    mediaType: 'application/octet-stream',
    etag: 'tag',
    isImmutable: true,
    source: 'disk',
    maxGapBytes,
    async *read(range: ByteRange) {
      reads.push(range);
      for (let { start } = range; start < range.end; start += pieceBytes) {
        const end = Math.min(start + pieceBytes, range.end);
        BYTES.copy(lent, 0, start, end);
        yield lent.subarray(0, end - start);
        lent.fill(0);
      }
    },
  };
  const response = multipartResponse(content, {}, ranges);
  if (typeof response.body !== 'function') throw new Error('no stream');
  const pieces: Buffer[] = [];
  for await (const piece of response.body()) pieces.push(Buffer.from(piece));
  const body = Buffer.concat(pieces);
  return {
    parts: parseMultipart(body, String(response.headers['content-type'])),
    pieces: pieces.map(({ byteLength }) => byteLength),
    reads,
    lengthHeader: [response.headers['content-length'], body.byteLength],
  };
}

function expectParts({ parts, lengthHeader }: Sent, ranges: readonly ByteRange[]): void {
  expect(parts.map(({ range }) => range)).toEqual(ranges);
  for (const { range, bytes } of parts)
    expect(bytes.equals(BYTES.subarray(range.start, range.end))).toBe(true);
  const [promised, sent] = lengthHeader as [number, number];
  expect(promised).toBe(sent);
}

describe('multipartResponse', () => {
  it.each([1000, 65_536, 200_000])(
    'sends the bytes of every range once, in order, read in pieces of %i bytes',
    async (pieceBytes) => {
      const random = seededRandom(SEED);
      for (let round = 0; round < 20; round++) {
        const ranges: ByteRange[] = [];
        for (let start = 0; ;) {
          start += Math.floor(random() ** 4 * 100_000);
          const end = start + 1 + Math.floor(random() ** 4 * 150_000);
          if (end > BYTES.byteLength) break;
          ranges.push({ start, end });
          start = end;
        }
        expectParts(await send(ranges, pieceBytes), ranges);
        expectParts(await send(ranges.toReversed(), pieceBytes), ranges.toReversed());
      }
    },
  );

  it('reads ranges with small gaps in one read, and all others one by one', async () => {
    const close = [
      { start: 10, end: 20 },
      { start: 20, end: 30 },
      { start: 5000, end: 5001 },
    ];
    const far = { start: 900_000, end: 900_010 };
    const sent = await send([...close, far], 65_536);
    expectParts(sent, [...close, far]);
    expect(sent.reads).toEqual([{ start: 10, end: 5001 }, far]);
    const all = await send([...close, far], 65_536, 1_000_000);
    expectParts(all, [...close, far]);
    expect(all.reads).toEqual([{ start: 10, end: 900_010 }]);
  });

  it('joins small parts into larger writes', async () => {
    const ranges = Array.from({ length: 1000 }, (_, place) => ({
      start: place * 900,
      end: place * 900 + 10,
    }));
    const sent = await send(ranges, 65_536);
    expectParts(sent, ranges);
    // Some 140 KB of heads and bytes.
    expect(sent.pieces.length).toBeLessThanOrEqual(3);
  });
});
