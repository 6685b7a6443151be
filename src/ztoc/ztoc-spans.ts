import type { ByteRange } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { decodeGzipZinfo } from './gzip-zinfo.ts';
import { decodeTarZinfo } from './tar-zinfo.ts';
import type { Ztoc } from './ztoc.ts';

/** A span as a zTOC describes it. */
export interface ZtocSpan {
  readonly id: number;
  /** Starts with the byte that holds the leftover bits, if any. */
  readonly compressed: ByteRange;
  /** The last span ends with the archive, even if the stream continues. */
  readonly uncompressed: ByteRange;
  readonly bits: number;
  /** Output before the span; empty for an uncompressed layer. Shares memory with the zTOC. */
  readonly window: Uint8Array;
  /** Of the compressed bytes. */
  readonly digest: Digest;
}

/**
 * Least number of uncompressed bytes between the checkpoints of a zTOC.
 * @throws SpandrelError INDEX_MALFORMED
 */
export function ztocSpanBytes({ compression, checkpoints }: Ztoc): number {
  return (compression === 'none' ? decodeTarZinfo(checkpoints) : decodeGzipZinfo(checkpoints)).spanBytes;
}

/**
 * The spans that hold bytes of `range`, a range of the decompressed layer, in order.
 * @throws SpandrelError INDEX_MALFORMED
 */
export function ztocSpans(ztoc: Ztoc, range: ByteRange): ZtocSpan[] {
  const all = ztoc.compression === 'none' ? plainSpans(ztoc) : gzipSpans(ztoc);
  return all.filter(
    ({ uncompressed }) => uncompressed.start < range.end && uncompressed.end > Math.max(range.start, 0),
  );
}

function gzipSpans(ztoc: Ztoc): ZtocSpan[] {
  const { checkpoints } = decodeGzipZinfo(ztoc.checkpoints);
  return checkpoints.map(({ compressedOffset, uncompressedOffset, bits, window }, id) => {
    const next = checkpoints[id + 1];
    const start = compressedOffset - (bits === 0 ? 0 : 1);
    return {
      id,
      compressed: { start, end: next?.compressedOffset ?? ztoc.compressedArchiveSize },
      uncompressed: {
        start: uncompressedOffset,
        end: next?.uncompressedOffset ?? ztoc.uncompressedArchiveSize,
      },
      bits,
      window,
      digest: digestOfSpan(ztoc, id),
    };
  });
}

function plainSpans(ztoc: Ztoc): ZtocSpan[] {
  const { spanBytes, sizeBytes } = decodeTarZinfo(ztoc.checkpoints);
  return ztoc.spanDigests.map((digest, id) => {
    const range = { start: id * spanBytes, end: Math.min(sizeBytes, (id + 1) * spanBytes) };
    return { id, compressed: range, uncompressed: range, bits: 0, window: new Uint8Array(0), digest };
  });
}

function digestOfSpan({ spanDigests }: Ztoc, id: number): Digest {
  const digest = spanDigests[id];
  if (digest === undefined)
    throw new SpandrelError('INDEX_MALFORMED', `the zTOC has no digest of span ${id}`);
  return digest;
}
