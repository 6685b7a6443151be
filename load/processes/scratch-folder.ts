import { join } from 'node:path';

import { TemporaryFolder } from '../../test/helpers/temporary-folder.ts';

/** A temporary folder of one run, removed at its end. */
export class ScratchFolder implements AsyncDisposable {
  readonly path: string;
  readonly #folder: TemporaryFolder;
  #count = 0;

  private constructor(folder: TemporaryFolder) {
    this.#folder = folder;
    this.path = folder.path;
  }

  static async create(): Promise<ScratchFolder> {
    return new ScratchFolder(await TemporaryFolder.create());
  }

  /** Path of a new folder in it, which does not exist yet. */
  next(): string {
    return join(this.path, String(this.#count++));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#folder[Symbol.asyncDispose]();
  }
}
