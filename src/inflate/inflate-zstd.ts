import { constants, createZstdDecompress, type ZstdDecompress } from 'node:zlib';

import type { ByteRange } from '../core/byte-range.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import { MAX_ZSTD_WINDOW_LOG, type ZstdFrame, ZstdFrameScanner } from './zstd-frames.ts';

/** A frame with output. Decoding can start at it. */
export interface ZstdDataFrame {
  /** Includes magic number and checksum. Skippable frames leave gaps between frames. */
  readonly compressed: ByteRange;
  readonly uncompressed: ByteRange;
}

export interface InflateZstdOptions {
  /** As for {@link ZstdFrameScanner}. */
  readonly maxWindowBytes?: number | undefined;
  /**
   * Reads the stream again from this offset. With it, a damaged frame is decoded a second time and all output
   * before the damage is delivered. Without it, up to 256 KiB of that output may be missing.
   */
  reread?: ((compressedStart: number) => AsyncIterable<Uint8Array>) | undefined;
  /** Called before output is delivered, with the largest window so far. */
  readonly onWindow?: (bytes: number) => void;
  /** Called when the consumer has taken all output of the frame. */
  onFrame?(frame: ZstdDataFrame): void;
}

/**
 * The output of a zstd stream of any number of frames (RFC 8878) in chunks, which the caller owns. Memory:
 * one chunk of input, a few of output, and the window. Returning early ends `compressed` too.
 * @throws SpandrelError LAYER_CORRUPT, LAYER_UNSUPPORTED (see {@link ZstdFrameScanner}); errors of
 * `compressed`
 */
export async function* inflateZstd(
  compressed: AsyncIterable<Uint8Array>,
  options: InflateZstdOptions = {},
): AsyncGenerator<Uint8Array, void, void> {
  const { maxWindowBytes, reread } = options;
  const scanner = new ZstdFrameScanner(maxWindowBytes);
  let frame = { compressedStart: 0, uncompressedStart: 0 };
  let uncompressedOffset = 0;
  const onFrameEnd = ({ compressed }: ZstdFrame): void => {
    const uncompressed = { start: frame.uncompressedStart, end: uncompressedOffset };
    frame = { compressedStart: compressed.end, uncompressedStart: uncompressedOffset };
    options.onFrame?.({ compressed, uncompressed });
  };
  try {
    for await (const output of decodeFrames(compressed, scanner, onFrameEnd)) {
      uncompressedOffset += output.length;
      options.onWindow?.(scanner.windowBytes);
      yield output;
    }
  } catch (error) {
    if (reread !== undefined && isSpandrelError(error, 'LAYER_CORRUPT')) {
      const alreadyGiven = uncompressedOffset - frame.uncompressedStart;
      yield* decodeUpToFault(reread(frame.compressedStart), maxWindowBytes, alreadyGiven);
    }
    throw error;
  }
  scanner.finish();
}

async function* decodeFrames(
  compressed: AsyncIterable<Uint8Array>,
  scanner: ZstdFrameScanner,
  onFrameEnd?: (frame: ZstdFrame) => void,
): AsyncGenerator<Uint8Array, void, void> {
  await using decoder = new ZstdDecoder();
  for await (const chunk of compressed) {
    // Frame by frame: Node's decoder silently ignores garbage, and frames that are cut short.
    for (const piece of scanner.scan(chunk)) {
      if (piece.kind === 'skippable') continue;
      yield* decoder.decode(piece.bytes);
      if (piece.ended !== undefined) onFrameEnd?.(piece.ended);
    }
  }
}

/**
 * The output of a damaged frame before its first wrong block or checksum, without the first `skipBytes`.
 * Blocks are decoded one at a time, because Node's decoder discards pending output when it finds damage.
 */
async function* decodeUpToFault(
  compressed: AsyncIterable<Uint8Array>,
  maxWindowBytes: number | undefined,
  skipBytes: number,
): AsyncGenerator<Uint8Array, void, void> {
  let skipped = 0;
  try {
    for await (const output of decodeFrames(compressed, new ZstdFrameScanner(maxWindowBytes, true))) {
      const fresh = output.subarray(skipBytes - skipped);
      skipped += output.length - fresh.length;
      if (fresh.length > 0) yield fresh;
    }
  } catch (error) {
    if (!isSpandrelError(error, 'LAYER_CORRUPT')) throw error;
  }
}

/** Node's streaming decoder as a pull: all output of one piece of input, then the next piece. */
class ZstdDecoder {
  readonly #stream: ZstdDecompress;
  #failure: Error | undefined;
  #wake: () => void = () => undefined;

  constructor() {
    this.#stream = createZstdDecompress({
      params: { [constants.ZSTD_d_windowLogMax]: MAX_ZSTD_WINDOW_LOG },
      chunkSize: 256 * 1024,
    });
    this.#stream.on('readable', () => this.#wake());
    this.#stream.on('error', (error) => {
      this.#failure = error;
      this.#wake();
    });
  }

  /** @param bytes of one frame only */
  async *decode(bytes: Uint8Array): AsyncGenerator<Uint8Array, void, void> {
    let taken = false;
    this.#stream.write(bytes, () => {
      taken = true;
      this.#wake();
    });
    for (;;) {
      const { promise: woken, resolve } = Promise.withResolvers<void>();
      this.#wake = resolve;
      const output: unknown = this.#stream.read();
      if (output instanceof Uint8Array) yield output;
      else if (this.#failure !== undefined) throw decodingError(this.#failure);
      else if (taken) return;
      else await woken;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#stream.closed) return;
    const { promise: closed, resolve } = Promise.withResolvers<void>();
    this.#stream.once('close', resolve);
    this.#stream.destroy();
    await closed;
  }
}

function decodingError(error: Error): SpandrelError {
  if (nodeErrorCode(error) === 'ZSTD_error_memory_allocation') {
    return new SpandrelError('OVERLOADED', 'no memory for the window of a zstd frame', { cause: error });
  }
  return new SpandrelError('LAYER_CORRUPT', `the zstd stream is damaged: ${error.message}`, { cause: error });
}
