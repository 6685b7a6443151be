import { closeSync, openSync, readSync, unlinkSync, writeSync } from 'node:fs';

import { WINDOW_BYTES } from '../inflate/engine.ts';

/**
 * The windows of a zTOC until it is built, in a file without a name: nothing is left of it, however the
 * process ends. Synchronous, for worker threads. Throws system errors.
 */
export class WindowScratch implements Disposable {
  readonly #file: number;

  /** @param path used only while the file is being opened */
  constructor(path: string) {
    this.#file = openSync(path, 'w+');
    try {
      unlinkSync(path);
    } catch (error) {
      closeSync(this.#file);
      throw error;
    }
  }

  /** Stores the window of a span. */
  write(spanId: number, window: Uint8Array): void {
    for (let at = 0; at < WINDOW_BYTES;)
      at += writeSync(this.#file, window, at, WINDOW_BYTES - at, spanId * WINDOW_BYTES + at);
  }

  /** Copies the window of a span into `target`, which must be zeroed; a missing window leaves it so. */
  read(spanId: number, target: Uint8Array): void {
    for (let at = 0; at < WINDOW_BYTES;) {
      const bytesRead = readSync(this.#file, target, at, WINDOW_BYTES - at, spanId * WINDOW_BYTES + at);
      if (bytesRead === 0) return;
      at += bytesRead;
    }
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}
