import { FailingFiles } from './failing-files.ts';
import { runProgram, tryProgram } from '../programs.ts';

/**
 * A folder in which nothing can be changed by its name: mounted read-only over itself, or, where mounting is
 * not allowed, one whose changes by this thread fail as if it were.
 */
export class ReadOnlyFolder implements AsyncDisposable {
  readonly #remove: () => Promise<unknown>;

  private constructor(remove: () => Promise<unknown>) {
    this.#remove = remove;
  }

  static async create(path: string): Promise<ReadOnlyFolder> {
    const bound = await tryProgram('mount', ['--bind', path, path]);
    if (bound.status === 0) {
      await runProgram('mount', ['-o', 'remount,bind,ro', path]);
      return new ReadOnlyFolder(() => runProgram('umount', ['--lazy', path]));
    }
    const operations = ['writeFile', 'rename', 'link', 'rm', 'mkdir', 'utimes', 'truncate'] as const;
    const failing = await FailingFiles.create({ folder: path, operations, code: 'EROFS' });
    return new ReadOnlyFolder(async () => failing[Symbol.dispose]());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#remove();
  }
}
