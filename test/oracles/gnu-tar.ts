import { runProgram } from '../helpers/programs.ts';

/** GNU tar, on archives in files, compressed or not. */
export const gnuTar = {
  /** Names of the regular files in an archive, in its order. */
  async files(archive: string): Promise<string[]> {
    const names = (await runProgram('tar', ['-tf', archive])).toString().split('\n');
    return names.filter((name) => name !== '' && !name.endsWith('/'));
  },

  /** The content of a file. @throws Error if the archive has none of this name */
  read(archive: string, name: string): Promise<Buffer> {
    return runProgram('tar', ['-xOf', archive, '--occurrence=1', '--', name]);
  },
};
