import { type ByteRange, intersectRanges } from '../../core/byte-range.ts';
import type { BlobResponse } from '../../core/sources/blob-source.ts';

/** Bytes of a blob, and where they start in it. */
export interface PositionedBytes {
  readonly bytes: Buffer;
  readonly position: number;
}

/**
 * The bytes of a response that lie within `range`; it may end before the range does. Reads the body to its
 * end, unless it continues after the range.
 */
export async function* readWithin(
  { body, range: sent }: Pick<BlobResponse, 'body' | 'range'>,
  range: ByteRange,
): AsyncGenerator<PositionedBytes, void, undefined> {
  let position = sent.start;
  for await (const bytes of body) {
    const part = intersectRanges({ start: position, end: position + bytes.byteLength }, range);
    if (part.end > part.start)
      yield { bytes: bytes.subarray(part.start - position, part.end - position), position: part.start };
    position += bytes.byteLength;
    if (position >= range.end && range.end < sent.end) break;
  }
}
