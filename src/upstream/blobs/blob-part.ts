import type { ByteRange } from '../../core/byte-range.ts';
import { rangeLength } from '../../core/byte-range.ts';
import { parseContentCodings } from '../transport/content-coding.ts';
import { parseContentLength, parseContentRange } from './content-range.ts';
import type { TransportResponse } from '../transport/transport.ts';

/** What can be used of an answer of 206. */
export interface BlobPart {
  /** Begins where the range that was asked for begins, and may end earlier. */
  readonly range: ByteRange;
  readonly totalBytes: number;
  /** Bytes of the body before `range`, and behind it as far as announced. */
  readonly skippedBytes: number;
  readonly surplusBytes: number;
}

/** A part that is shorter than it should be saves nothing, and one with more around it wastes as much. */
const MIN_PART_BYTES = 64 * 1024;

/**
 * What an answer of 206 has of the range `asked`, of a blob of `knownBytes` if that is known. `undefined` if the blob is better asked for
 * as a whole: the part is another one, is packed, or does not say what it is of.
 */
export function planBlobPart(
  { headers }: TransportResponse,
  asked: ByteRange,
  knownBytes: number | undefined,
): BlobPart | undefined {
  const content = parseContentRange(headers['content-range']);
  const totalBytes = knownBytes ?? content?.totalBytes;
  if (content === undefined || totalBytes === undefined) return undefined;
  if (content.totalBytes !== undefined && content.totalBytes !== totalBytes) return undefined;
  // A range of what is packed is one of the packed bytes; where only the label says so, its total is that of the blob.
  const isPacked = parseContentCodings(headers['content-encoding']).length > 0;
  if (isPacked && (knownBytes === undefined || content.totalBytes !== knownBytes)) return undefined;
  const { start } = content.range;
  const sentBytes = parseContentLength(headers['content-length']) ?? rangeLength(content.range);
  const sentEnd = Math.min(content.range.end, start + sentBytes);
  const wanted = { start: asked.start, end: Math.min(asked.end, totalBytes) };
  const range = { start: wanted.start, end: Math.min(wanted.end, sentEnd) };
  const skippedBytes = wanted.start - start;
  if (skippedBytes < 0 || skippedBytes > MIN_PART_BYTES || range.end <= range.start) return undefined;
  // Who cuts what is asked for may also be wrong about the size that nobody else has told.
  const isShort = range.end < wanted.end;
  if (isShort && (knownBytes === undefined || rangeLength(range) < MIN_PART_BYTES)) return undefined;
  return { range, totalBytes, skippedBytes, surplusBytes: Math.max(0, start + sentBytes - range.end) };
}
