/** A place in a gzip stream from which DEFLATE can resume. */
export interface Checkpoint {
  /** Offset in the compressed stream of the first unread byte. */
  readonly compressedOffset: number;
  /** 0 to 7: how many high bits of the byte before `compressedOffset` are not consumed. */
  readonly bits: number;
  /** Bytes of output before the checkpoint, over all gzip members. */
  readonly uncompressedOffset: number;
}

/**
 * Offset of the first byte needed to resume. With leftover bits, the data before the checkpoint ends in this
 * byte.
 */
export function compressedStartOf({ compressedOffset, bits }: Checkpoint): number {
  return bits === 0 ? compressedOffset : compressedOffset - 1;
}

/** How far back in the output a DEFLATE match may reach (RFC 1951, section 2). */
export const WINDOW_BYTES = 32768;

export interface InflateEvents {
  /**
   * The next output, in order, with its CRC-32. `bytes` belongs to the decoder and is valid only during the
   * call.
   */
  onOutput(bytes: Uint8Array, crc32: number): void;
  /**
   * A place where decoding can resume, the same as where zlib's `Z_BLOCK` stops: after each member's header,
   * and after each deflate block except a member's last. All output before it has been delivered.
   * `copyWindow` writes the last {@link WINDOW_BYTES} of output to `target`, preceded by zeros if there are
   * fewer; call it only during the event.
   */
  onBoundary(checkpoint: Checkpoint, copyWindow: (target: Uint8Array) => void): void;
}

/**
 * Decodes a gzip stream of any number of members, fed in chunks of any size. Synchronous: for worker threads.
 */
export interface GzipInflater {
  /**
   * Decodes `compressed`, which is not retained.
   * @throws SpandrelError LAYER_CORRUPT (bad data, bad CRC or length in a trailer)
   */
  write(compressed: Uint8Array): void;
  /** @throws SpandrelError LAYER_CORRUPT if the stream is cut short */
  finish(): void;
  /** Bytes of input read so far. */
  readonly compressedOffset: number;
  /**
   * Starts a span at the announced boundary and tracks what the span uses of its window. Call it only in
   * `onBoundary`.
   */
  beginSpan(): void;
  /**
   * Writes the window of the current span to `target`: the bytes that the span's output refers to so far.
   * Other bytes may be zeros, so that the window compresses well.
   * @returns false, with `target` unchanged, if the output refers to nothing
   */
  copyUsedWindow(target: Uint8Array): boolean;
  /**
   * True if zeros follow the last member, as on tapes. gzip skips them; zlib, and so `soci`, refuses them.
   */
  readonly hasPadding: boolean;
}

export interface SpanInput {
  /**
   * Compressed bytes from the span's start. If `bits` is not 0, the first byte holds the leftover bits. Bytes
   * after the end of the span are ignored.
   */
  readonly compressed: Uint8Array;
  readonly bits: number;
  /**
   * The {@link WINDOW_BYTES} of output before the span, or empty if the span refers to none. Not modified.
   */
  readonly window: Uint8Array;
  readonly uncompressedLength: number;
  /** Expected CRC-32 of the output, if known. */
  readonly crc32?: number;
}

export type EngineName = 'wasm' | 'pako';

/**
 * One way to decode DEFLATE. All engines pass the same conformance suite
 * (`test/inflate/engine-conformance.ts`).
 */
export interface Engine {
  readonly name: EngineName;
  createGzipInflater(events: InflateEvents): GzipInflater;
  /**
   * Decodes a span, which may extend over several gzip members.
   * @returns exactly `uncompressedLength` bytes in a buffer that the caller owns
   * @throws SpandrelError SPAN_CORRUPT
   */
  inflateSpan(input: SpanInput): Uint8Array<ArrayBuffer>;
}
