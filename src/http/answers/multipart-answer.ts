import { randomUUID } from 'node:crypto';

import { type ByteRange, intersectRanges, rangeLength } from '../../core/byte-range.ts';
import type { Answer, ByteStream } from './answer.ts';
import type { Content } from './content-answer.ts';
import { formatContentRange } from '../requests/range-header.ts';

/** What is read of a file or of a span anyway, or costs less than a further read. */
const MAX_GAP_BYTES = 32 * 1024;
/** Smaller pieces of a body are sent together. */
const JOINED_BYTES = 64 * 1024;

/** Ranges of content as `multipart/byteranges` (RFC 9110, section 14.6). @param ranges that do not overlap */
export function answerMultipart(
  content: Content,
  headers: Answer['headers'],
  ranges: readonly ByteRange[],
): Answer {
  const boundary = randomUUID();
  const headOf = (range: ByteRange, place: number): string =>
    `${place === 0 ? '' : '\r\n'}--${boundary}\r\ncontent-type: ${content.contentType}\r\n` +
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
        // A group ascends; the next one may lie before it.
        if (range.end === near.end) break;
      }
    }
  }
  yield Buffer.from(tail);
}

/** Ranges that cover `ranges` and, between those that follow each other closely, the gaps; in the same order. */
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

/** The same bytes in pieces that are worth a packet each. */
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
