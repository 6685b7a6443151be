import type { ByteRange } from '../core/byte-range.ts';
import type { PartialFile } from './partial-file.ts';

/** Bytes that may wait while others are being written; as much again is in the write. */
const MAX_PENDING_BYTES = 512 * 1024;

/**
 * Writes a stream of buffers to a file, in order. What arrives during a write goes into the next one as a whole, so that a fast
 * stream costs few writes and a slow one is in the file at once.
 */
export class RangeWriter {
  readonly #file: PartialFile;
  readonly #onWritten: (range: ByteRange) => void;
  #pending: Buffer[] = [];
  #pendingBytes = 0;
  /** Where the first pending byte belongs. */
  #position: number;
  #writing: Promise<void> | undefined;
  #failure: { readonly error: unknown } | undefined;

  constructor(file: PartialFile, position: number, onWritten: (range: ByteRange) => void) {
    this.#file = file;
    this.#position = position;
    this.#onWritten = onWritten;
  }

  /** Take over a buffer. Waits while too much is pending. @throws what an earlier write threw */
  async write(buffer: Buffer): Promise<void> {
    this.#pending.push(buffer);
    this.#pendingBytes += buffer.byteLength;
    if (this.#writing === undefined) this.#writePending();
    while (this.#pendingBytes > MAX_PENDING_BYTES && this.#failure === undefined) await this.#writing;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  /** Resolves when everything is in the file. @throws what a write threw */
  async flush(): Promise<void> {
    while (this.#writing !== undefined) await this.#writing;
    if (this.#failure !== undefined) throw this.#failure.error;
  }

  #writePending(): void {
    const buffers = this.#pending;
    const range = { start: this.#position, end: this.#position + this.#pendingBytes };
    this.#pending = [];
    this.#pendingBytes = 0;
    this.#position = range.end;
    this.#writing = this.#file.write(buffers, range.start).then(
      () => {
        this.#onWritten(range);
        if (this.#pendingBytes > 0) this.#writePending();
        else this.#writing = undefined;
      },
      (error: unknown) => {
        this.#failure = { error };
        this.#writing = undefined;
      },
    );
  }
}
