/** A place in a gzip stream from which DEFLATE can resume. */
export interface Checkpoint {
  /** Offset in the compressed stream of the first byte that has not been touched. */
  readonly compressedOffset: number;
  /** 0..7: how many high bits of the byte before `compressedOffset` have not been consumed. */
  readonly bits: number;
  /** Bytes of output before this place, over all gzip members. */
  readonly uncompressedOffset: number;
}

/** Offset of the first byte that is needed to resume; it belongs to what is before the checkpoint as well if there are leftover bits. */
export function compressedStartOf({ compressedOffset, bits }: Checkpoint): number {
  return bits === 0 ? compressedOffset : compressedOffset - 1;
}

/** Bytes of output that DEFLATE may refer back to (RFC 1951, section 2). */
export const WINDOW_BYTES = 32768;

export interface InflateEvents {
  /** Next output, in order, with its CRC-32. `bytes` is the decoder's own buffer, valid during the call only. */
  onOutput(bytes: Uint8Array, crc32: number): void;
  /**
   * Called where zlib's `Z_BLOCK` stops and decoding could resume: behind each member's header and behind each deflate
   * block but a member's last. All output before the place has been delivered. `copyWindow` writes the last
   * {@link WINDOW_BYTES} of output into `target` (zeros in front while there are fewer); call it during the event only.
   */
  onBoundary(checkpoint: Checkpoint, copyWindow: (target: Uint8Array) => void): void;
}

/** Decodes one gzip stream of any number of members, fed in chunks of any size. Synchronous, for worker threads. */
export interface GzipInflater {
  /**
   * Decode `compressed`; not retained after the call.
   * @throws SpandrelError LAYER_CORRUPT (bad data, bad CRC or length in a trailer)
   */
  write(compressed: Uint8Array): void;
  /** @throws SpandrelError LAYER_CORRUPT if the stream is cut short */
  finish(): void;
  /** Bytes of input that have been touched. */
  readonly compressedOffset: number;
  /** A span begins at the boundary that is being announced: note what it uses of the window. Call it during `onBoundary` only. */
  beginSpan(): void;
  /**
   * Write the window of the span that began last into `target`, at least those bytes that the output since then has referred to;
   * the others may be zeros, so that it compresses well. Good for decoding the span as far as it has been decoded.
   * @returns false, and `target` as it was, if nothing has been referred to
   */
  copyUsedWindow(target: Uint8Array): boolean;
  /** Zeros have followed the last member, as tapes leave them. gzip passes over them; zlib, and so `soci`, refuses them. */
  readonly hasPadding: boolean;
}

export interface SpanInput {
  /**
   * Compressed bytes from the span's start; when `bits` is not 0 the first byte is the one that holds them. Bytes behind the
   * span's end do no harm.
   */
  readonly compressed: Uint8Array;
  readonly bits: number;
  /** The {@link WINDOW_BYTES} of output before the span, or empty where nothing is referred to. Not modified. */
  readonly window: Uint8Array;
  readonly uncompressedLength: number;
  /** What the CRC-32 of the output must be, if that is known. */
  readonly crc32?: number;
}

export type EngineName = 'wasm' | 'pako';

/** One way to decode DEFLATE. All engines pass the same conformance suite (`test/inflate/engine-conformance.ts`). */
export interface Engine {
  readonly name: EngineName;
  createGzipInflater(events: InflateEvents): GzipInflater;
  /**
   * Decode one span, across gzip member ends if it has any.
   * @returns exactly `uncompressedLength` bytes in a buffer the caller owns
   * @throws SpandrelError SPAN_CORRUPT
   */
  inflateSpan(input: SpanInput): Uint8Array<ArrayBuffer>;
}
