import { type ByteRange, rangeLength } from '../core/byte-range.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { inflateZstd, type InflateZstdOptions } from './inflate-zstd.ts';

export interface ZstdReaderInput extends Pick<InflateZstdOptions, 'maxWindowBytes' | 'reread'> {
  /** Compressed bytes from the start of a frame; read only as far as needed. */
  readonly compressed: AsyncIterable<Uint8Array>;
  /** Offset of the output of that frame. */
  readonly uncompressedStart: number;
}

/** Reads ascending ranges of the output of a zstd stream. Output between them is decoded and dropped. */
export class ZstdReader implements AsyncDisposable {
  readonly #output: AsyncGenerator<Uint8Array, void, void>;
  /** Decoded output that no range has read. */
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

  /** Offset of the next byte. */
  get position(): number {
    return this.#position;
  }

  /** Largest window of the decoder so far. */
  get windowBytes(): number {
    return this.#windowBytes;
  }

  /**
   * @param range starts at or after the position; may extend over several frames
   * @throws SpandrelError SPAN_CORRUPT if the stream is damaged or too short, LAYER_UNSUPPORTED; errors of
   * `compressed`
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
