import type { ByteRange } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';

/** A part of a layer that can be decompressed on its own. */
export interface ReadSpan {
  /** Counted from 0. */
  readonly id: number;
  /**
   * The bytes to fetch. gzip: starts with the byte that holds the leftover bits, if any, so that neighbours
   * may overlap by one byte. zstd: starts with a frame, and so contains the earlier spans of that frame.
   */
  readonly compressed: ByteRange;
  readonly uncompressed: ByteRange;
  /** 0 to 7: how many high bits of the first compressed byte belong to this span; 0 means the whole byte. */
  readonly bits: number;
  /** CRC-32 of the uncompressed bytes. */
  readonly crc32: number;
  /** zstd: the frame at or before the span where decoding starts. */
  readonly frame?: FrameStart;
}

/**
 * A span of the layer's zTOC, or, if the layer has none, as the zTOC would have it. The uncompressed ranges
 * of a layer's spans are contiguous, and so are those of its read spans; some may be empty.
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
