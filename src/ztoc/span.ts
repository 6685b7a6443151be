import type { ByteRange } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';

/** A part of a layer that can be decompressed on its own. */
export interface ReadSpan {
  /** Counted from 0. */
  readonly id: number;
  /**
   * What must be fetched. Begins with the byte that holds the leftover bits if there are any, so that neighbours overlap by one
   * byte; zstd: begins with a frame, and so overlaps with all spans before it in that frame.
   */
  readonly compressed: ByteRange;
  readonly uncompressed: ByteRange;
  /** 0 to 7: high bits of the first compressed byte that belong to this span; 0 for all of it. */
  readonly bits: number;
  /** CRC-32 of the uncompressed bytes. */
  readonly crc32: number;
  /** zstd: the place at or before the span where decoding can begin. */
  readonly frame?: FrameStart;
}

/**
 * A span of the layer's zTOC, or for want of one as it would be. The uncompressed ranges of a layer's spans follow each other
 * without gaps, as those of its read spans do; some may be empty.
 */
export interface Span extends ReadSpan {
  /** sha256 of the compressed bytes. */
  readonly digest: Digest;
}

/** The beginning of a zstd frame in both streams. */
export interface FrameStart {
  readonly compressedStart: number;
  readonly uncompressedStart: number;
}
