import { closeSync, openSync, writeSync } from 'node:fs';

import { storeFault } from '../../blobs/files/store-fault.ts';

/** A file that must not exist yet, written at its end. @throws SpandrelError STORE_FULL, STORE_FAILED */
export class NewFile implements Disposable {
  readonly #file: number;

  constructor(path: string) {
    this.#file = withStoreErrors(() => openSync(path, 'wx'));
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;)
      at += withStoreErrors(() => writeSync(this.#file, bytes, at, bytes.length - at));
  }

  [Symbol.dispose](): void {
    closeSync(this.#file);
  }
}

function withStoreErrors<T>(work: () => T): T {
  try {
    return work();
  } catch (error) {
    throw storeFault(error, 'write a file');
  }
}
