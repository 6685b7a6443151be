import { closeSync, openSync, read } from 'node:fs';
import { promisify } from 'node:util';

const readInto = promisify(read);

/**
 * A file that a worker thread reads. It is opened synchronously: Node closes the files of a killed thread,
 * but not one that is being opened asynchronously. Throws the errors of the system.
 */
export class ThreadFile implements AsyncDisposable {
  readonly #fd: number;
  #reading: Promise<unknown> = Promise.resolve();

  constructor(path: string) {
    this.#fd = openSync(path, 'r');
  }

  /**
   * Reads into `buffer` from `position` on; one read at a time. @returns the number of bytes, 0 at the end of
   * the file
   */
  async read(buffer: Uint8Array, position: number): Promise<number> {
    const reading = readInto(this.#fd, buffer, 0, buffer.byteLength, position);
    this.#reading = reading;
    return (await reading).bytesRead;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    // A descriptor that is closed during a read may already belong to another file.
    await Promise.allSettled([this.#reading]);
    closeSync(this.#fd);
  }
}
