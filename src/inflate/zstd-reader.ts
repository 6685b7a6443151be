import { type ByteRange, rangeLength } from '../core/byte-range.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { inflateZstd, type InflateZstdOptions } from './zstd-inflater.ts';

export interface ZstdReaderInput extends Pick<InflateZstdOptions, 'maxWindowBytes' | 'reread'> {
  /** Compressed bytes from a frame's start on; read no further than needed. */
  readonly compressed: AsyncIterable<Uint8Array>;
  /** Where the output of the first of them lies. */
  readonly uncompressedStart: number;
}

/** Reads ranges of the output of a zstd stream, one behind the other. What lies between them is decoded and dropped. */
export class ZstdReader implements AsyncDisposable {
  readonly #output: AsyncGenerator<Uint8Array, void, void>;
  /** Output that has not been taken. */
  #rest: Uint8Array = new Uint8Array();
  #position: number;
  #windowBytes = 0;

  constructor({ compressed, uncompressedStart, maxWindowBytes, reread }: ZstdReaderInput) {
    this.#position = uncompressedStart;
    const onWindow = (bytes: number): void => {
      this.#windowBytes = bytes;
    };
    this.#output = inflateZstd(compressed, { maxWindowBytes, reread, onWindow });
  }

  /** Where the next byte lies that it gives. */
  get position(): number {
    return this.#position;
  }

  /** What the decoder holds of the output so far, at most. */
  get windowBytes(): number {
    return this.#windowBytes;
  }

  /**
   * @param range that does not begin ahead of the position; may reach into following frames
   * @throws SpandrelError SPAN_CORRUPT if the stream is damaged or ends before the range does; LAYER_UNSUPPORTED; what `compressed` throws
   */
  async read(range: ByteRange): Promise<Uint8Array<ArrayBuffer>> {
    const bytes = new Uint8Array(rangeLength(range));
    let filled = 0;
    while (filled < bytes.length) {
      if (this.#rest.length === 0) this.#rest = await this.#decodeMore(range);
      const dropped = Math.min(this.#rest.length, Math.max(0, range.start - this.#position));
      const part = this.#rest.subarray(dropped, dropped + bytes.length - filled);
      bytes.set(part, filled);
      filled += part.length;
      this.#position += dropped + part.length;
      this.#rest = this.#rest.subarray(dropped + part.length);
    }
    return bytes;
  }

  async #decodeMore({ end }: ByteRange): Promise<Uint8Array> {
    try {
      const next = await this.#output.next();
      if (next.done !== true) return next.value;
    } catch (error) {
      if (!isSpandrelError(error, 'LAYER_CORRUPT')) throw error;
      throw new SpandrelError('SPAN_CORRUPT', error.message, { cause: error });
    }
    throw new SpandrelError(
      'SPAN_CORRUPT',
      `the zstd stream gives ${this.#position} bytes, ${end} are needed`,
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#output.return();
  }
}
