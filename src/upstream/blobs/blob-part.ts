import type { ByteRange } from '../../core/byte-range.ts';
import { rangeLength } from '../../core/byte-range.ts';
import { parseContentCodings } from '../transport/content-coding.ts';
import { parseContentLength, parseContentRange } from './content-range.ts';
import type { TransportResponse } from '../transport/transport.ts';

/** The usable part of a 206 response. */
export interface BlobPart {
  /** Starts where the requested range starts, and may end earlier. */
  readonly range: ByteRange;
  readonly totalBytes: number;
  /** Bytes of the body before `range`, and announced bytes after it. */
  readonly skippedBytes: number;
  readonly surplusBytes: number;
}

/** A shorter part, or one with more bytes around it, is not worth a request. */
const MIN_PART_BYTES = 64 * 1024;

/**
 * Plans what to use of a 206 response to a request for `asked`. `undefined` if the whole blob should be
 * requested instead: the part is a different one, is encoded, or does not say what it contains.
 * @param knownBytes size of the blob, if known
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
  // A range of an encoded body is a range of encoded bytes. If the total is that of the blob, only the header
  // is wrong.
  const isEncoded = parseContentCodings(headers['content-encoding']).length > 0;
  if (isEncoded && (knownBytes === undefined || content.totalBytes !== knownBytes)) return undefined;
  const { start } = content.range;
  const sentBytes = parseContentLength(headers['content-length']) ?? rangeLength(content.range);
  const sentEnd = Math.min(content.range.end, start + sentBytes);
  const wanted = { start: asked.start, end: Math.min(asked.end, totalBytes) };
  const range = { start: wanted.start, end: Math.min(wanted.end, sentEnd) };
  const skippedBytes = wanted.start - start;
  if (skippedBytes < 0 || skippedBytes > MIN_PART_BYTES || range.end <= range.start) return undefined;
  // A server that cuts ranges short may also report a wrong total, so the size must be known.
  const isShort = range.end < wanted.end;
  if (isShort && (knownBytes === undefined || rangeLength(range) < MIN_PART_BYTES)) return undefined;
  return { range, totalBytes, skippedBytes, surplusBytes: Math.max(0, start + sentBytes - range.end) };
}
