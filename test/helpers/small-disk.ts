import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { runProgram } from './programs.ts';

/**
 * A folder that holds no more than some bytes: a tmpfs, or, where mounting is not allowed, one whose files cannot become larger
 * because this process may not write larger ones while the disk is there.
 */
export class SmallDisk implements AsyncDisposable {
  readonly path: string;
  readonly #remove: () => Promise<unknown>;

  private constructor(path: string, remove: () => Promise<unknown>) {
    this.path = path;
    this.#remove = remove;
  }

  static async create(bytes: number): Promise<SmallDisk> {
    const path = await mkdtemp(join(tmpdir(), 'spandrel-disk-'));
    try {
      await runProgram('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'spandrel-test', path]);
      return new SmallDisk(path, () => runProgram('umount', ['--lazy', path]));
    } catch {
      const limit = (soft: string): Promise<unknown> =>
        runProgram('prlimit', ['--pid', String(process.pid), `--fsize=${soft}:`]);
      await limit(String(Math.floor(bytes / 2)));
      return new SmallDisk(path, () => limit('unlimited'));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#remove();
    await rm(this.path, { recursive: true, force: true });
  }
}
