import type { ByteRange } from '../../../src/core/byte-range.ts';
import { rangeLength } from '../../../src/core/byte-range.ts';
import type { BlobResponse, BlobSource } from '../../../src/core/sources/blob-source.ts';

const PIECE_BYTES = 16 * 1024;

export interface MemorySourceOptions {
  /** False: every answer is the whole blob. */
  readonly ranges?: boolean;
  /** Called before each piece is given out, with its place in the blob; may wait or throw. */
  readonly beforePiece?: (position: number) => Promise<void> | void;
}

/** An upstream in memory that remembers what it was asked for. */
export class MemorySource implements BlobSource {
  readonly requests: (ByteRange | undefined)[] = [];
  bytesSent = 0;
  readonly #bytes: Buffer;
  readonly #options: MemorySourceOptions;

  constructor(bytes: Buffer, options: MemorySourceOptions = {}) {
    this.#bytes = bytes;
    this.#options = options;
  }

  async fetch(range: ByteRange | undefined, signal: AbortSignal): Promise<BlobResponse> {
    this.requests.push(range);
    signal.throwIfAborted();
    const whole = { start: 0, end: this.#bytes.byteLength };
    const sent =
      range === undefined || this.#options.ranges === false
        ? whole
        : { start: range.start, end: Math.min(range.end, whole.end) };
    return { range: sent, totalBytes: whole.end, body: this.#send(sent, signal) };
  }

  async *#send(range: ByteRange, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    for (let position = range.start; position < range.end;) {
      await this.#options.beforePiece?.(position);
      signal.throwIfAborted();
      const length = Math.min(PIECE_BYTES, rangeLength({ start: position, end: range.end }));
      this.bytesSent += length;
      yield Buffer.from(this.#bytes.subarray(position, position + length));
      position += length;
    }
  }
}
