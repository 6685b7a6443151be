import { randomUUID } from 'node:crypto';

import { type ByteRange, intersectRanges, rangeLength } from '../../core/byte-range.ts';
import type { ByteStream, Content } from '../../images/contents/content.ts';
import type { RegistryResponse } from './registry-response.ts';
import { formatContentRange } from '../requests/range-header.ts';

/** Reading a gap of this size costs less than a second read. */
const MAX_GAP_BYTES = 32 * 1024;
/** Smaller pieces of a body are joined. */
const JOINED_BYTES = 64 * 1024;

/** Several ranges as `multipart/byteranges` (RFC 9110, section 14.6). @param ranges must not overlap */
export function multipartResponse(
  content: Content,
  headers: RegistryResponse['headers'],
  ranges: readonly ByteRange[],
): RegistryResponse {
  const boundary = randomUUID();
  const headOf = (range: ByteRange, place: number): string =>
    `${place === 0 ? '' : '\r\n'}--${boundary}\r\ncontent-type: ${content.mediaType}\r\n` +
    `content-range: ${formatContentRange(range, content.sizeBytes)}\r\n\r\n`;
  const tail = `\r\n--${boundary}--\r\n`;
  const lengthBytes = ranges.reduce(
    (sum, range, place) => sum + headOf(range, place).length + rangeLength(range),
    tail.length,
  );
  return {
    status: 206,
    headers: {
      ...headers,
      'content-type': `multipart/byteranges; boundary=${boundary}`,
      'content-length': lengthBytes,
    },
    body: () => joinSmallPieces(multipartPieces(content, ranges, headOf, tail)),
  };
}

async function* multipartPieces(
  content: Content,
  ranges: readonly ByteRange[],
  headOf: (range: ByteRange, place: number) => string,
  tail: string,
): ByteStream {
  let place = 0;
  for (const near of groupNear(ranges, content.maxGapBytes ?? MAX_GAP_BYTES)) {
    let position = near.start;
    for await (const bytes of content.read(near)) {
      const arrived = { start: position, end: position + bytes.byteLength };
      position = arrived.end;
      for (
        let range = ranges[place];
        range !== undefined && range.start < arrived.end;
        range = ranges[place]
      ) {
        if (range.start >= arrived.start) yield Buffer.from(headOf(range, place));
        const part = intersectRanges(range, arrived);
        yield bytes.subarray(part.start - arrived.start, part.end - arrived.start);
        if (range.end > arrived.end) break;
        place++;
        // Ranges of a group ascend; the next group may lie before this one.
        if (range.end === near.end) break;
      }
    }
  }
  yield Buffer.from(tail);
}

/** Joins consecutive ranges with small gaps between them into one range to read; keeps the order. */
function groupNear(ranges: readonly ByteRange[], maxGapBytes: number): ByteRange[] {
  const groups: ByteRange[] = [];
  for (const range of ranges) {
    const last = groups.at(-1);
    const isNear = last !== undefined && range.start >= last.end && range.start - last.end <= maxGapBytes;
    if (isNear) groups[groups.length - 1] = { start: last.start, end: range.end };
    else groups.push(range);
  }
  return groups;
}

/** Joins small pieces, so that each write fills packets. */
async function* joinSmallPieces(pieces: ByteStream): ByteStream {
  const joined = Buffer.allocUnsafeSlow(JOINED_BYTES);
  let joinedBytes = 0;
  for await (const piece of pieces) {
    if (joinedBytes > 0 && joinedBytes + piece.byteLength > JOINED_BYTES) {
      yield joined.subarray(0, joinedBytes);
      joinedBytes = 0;
    }
    if (piece.byteLength > JOINED_BYTES) {
      yield piece;
      continue;
    }
    joined.set(piece, joinedBytes);
    joinedBytes += piece.byteLength;
  }
  if (joinedBytes > 0) yield joined.subarray(0, joinedBytes);
}
