import { runProgram } from '../programs.ts';
import { TemporaryFolder } from '../temporary-folder.ts';

/**
 * A folder that holds no more than some bytes: a tmpfs, or, where mounting is not allowed, one whose files
 * cannot become larger because this process may not write larger ones while the disk is there.
 */
export class SmallDisk implements AsyncDisposable {
  readonly path: string;
  readonly #folder: TemporaryFolder;
  readonly #remove: () => Promise<unknown>;

  private constructor(folder: TemporaryFolder, remove: () => Promise<unknown>) {
    this.path = folder.path;
    this.#folder = folder;
    this.#remove = remove;
  }

  static async create(bytes: number): Promise<SmallDisk> {
    const folder = await TemporaryFolder.create();
    const { path } = folder;
    try {
      await runProgram('mount', ['-t', 'tmpfs', '-o', `size=${bytes}`, 'spandrel-test', path]);
      return new SmallDisk(folder, () => runProgram('umount', ['--lazy', path]));
    } catch {
      const limit = (soft: string): Promise<unknown> =>
        runProgram('prlimit', ['--pid', String(process.pid), `--fsize=${soft}:`]);
      await limit(String(Math.floor(bytes / 2)));
      return new SmallDisk(folder, () => limit('unlimited'));
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#remove();
    await this.#folder[Symbol.asyncDispose]();
  }
}
