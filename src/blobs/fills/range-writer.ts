import { crc32 } from 'node:zlib';

import type { ByteRange } from '../../core/byte-range.ts';
import type { PartialFile } from '../files/partial-file.ts';

/** Bytes that may wait during a write; a write has at most as many. */
const MAX_PENDING_BYTES = 512 * 1024;
/**
 * Bytes between two lines of the chunk map. After a crash, each request of a fill loses at most this much.
 */
const PIECE_BYTES = 2 ** 20;

/**
 * Writes a stream of buffers to a file, in order, and records the pieces. Buffers that arrive during a write
 * go into the next one together, so a fast stream costs few writes, and a slow one is written at once.
 */
export class RangeWriter {
  readonly #file: PartialFile;
  readonly #onWritten: (range: ByteRange) => void;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** File position of the first pending byte. */
  #position: number;
  #writing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;
  /** Bytes written since the last record. */
  #piece: { start: number; end: number; crc32: number };

  constructor(file: PartialFile, position: number, onWritten: (range: ByteRange) => void) {
    this.#file = file;
    this.#position = position;
    this.#onWritten = onWritten;
    this.#piece = { start: position, end: position, crc32: 0 };
  }

  /**
   * Queues a buffer, which it owns from now on. Waits while too much is pending. @throws the error of an
   * earlier write
   */
  async write(buffer: Buffer): Promise<void> {
    this.#pending.push(buffer);
    this.#pendingBytes += buffer.byteLength;
    if (this.#writing === undefined) this.#writePending();
    while (this.#pendingBytes > MAX_PENDING_BYTES && this.#failure === undefined) await this.#writing;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Resolves when everything is written and recorded. @throws the error of a write */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    if (this.#piece.end > this.#piece.start) await this.#record();
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #writePending(): void {
    const buffers = this.#pending;
    const range = { start: this.#position, end: this.#position + this.#pendingBytes };
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#position = range.end;
    this.#writing = this.#writeOne(buffers, range).then(
      () => {
        if (this.#pendingBytes > 0) this.#writePending();
        else this.#writing = undefined;
      },
      (error: unknown) => {
        this.#failure = { error };
        this.#writing = undefined;
      },
    );
  }

  async #writeOne(buffers: readonly Buffer[], range: ByteRange): Promise<void> {
    await this.#file.write(buffers, range.start);
    this.#onWritten(range);
    for (const buffer of buffers) this.#piece.crc32 = crc32(buffer, this.#piece.crc32);
    this.#piece.end = range.end;
    if (range.end - this.#piece.start >= PIECE_BYTES) await this.#record();
  }

  async #record(): Promise<void> {
    const piece = this.#piece;
    this.#piece = { start: piece.end, end: piece.end, crc32: 0 };
    await this.#file.record(piece);
  }
}
