import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { cleanup } from './cleanup.ts';

/** An empty folder that is removed with all that is in it. */
export class TemporaryFolder implements AsyncDisposable {
  readonly path: string;

  private constructor(path: string) {
    this.path = path;
  }

  static async create(): Promise<TemporaryFolder> {
    return new TemporaryFolder(await mkdtemp(join(tmpdir(), 'spandrel-')));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}

/** The path of an empty folder, which is removed at the end of the test; see {@link cleanup}. */
export async function temporaryFolder(): Promise<string> {
  return cleanup.use(await TemporaryFolder.create()).path;
}
