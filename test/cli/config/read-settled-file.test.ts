import { mkdir, rename, rm, symlink, truncate, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, expect, it } from 'vitest';

import { readSettledFile } from '../../../src/cli/config/read-settled-file.ts';
import { runProgram } from '../../helpers/programs.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let folder: string;
let file: string;

beforeEach(async () => {
  folder = await temporaryFolder();
  file = join(folder, 'spandrel.yaml');
  await writeFile(file, 'first: 1\n');
});

/** Does one thing after the other between looks, then nothing. */
function between(...steps: readonly (() => Promise<unknown>)[]): {
  settle: () => Promise<unknown>;
  count: number;
} {
  const left = [...steps];
  const pauses = { settle: async () => (pauses.count++, left.shift()?.()), count: 0 };
  return pauses;
}

it('a file that is not being written is read twice', async () => {
  const pauses = between();
  expect((await readSettledFile(file, pauses.settle)).toString()).toBe('first: 1\n');
  expect(pauses.count).toBe(1);
});

it('a file that is rewritten in place is returned when it is complete', async () => {
  const pauses = between(
    () => truncate(file),
    () => writeFile(file, 'second: '),
    () => writeFile(file, 'second: 2\n'),
  );
  expect((await readSettledFile(file, pauses.settle)).toString()).toBe('second: 2\n');
  expect(pauses.count).toBe(4);
});

it('a rewrite of the same length and time is noticed', async () => {
  const time = new Date(2020, 1, 1);
  await utimes(file, time, time);
  const pauses = between(async () => {
    await writeFile(file, 'other: 2\n');
    await utimes(file, time, time);
  });
  expect((await readSettledFile(file, pauses.settle)).toString()).toBe('other: 2\n');
});

it('after a rename the new file is returned', async () => {
  await writeFile(`${file}.new`, 'second: 2\n');
  const pauses = between(() => rename(`${file}.new`, file));
  expect((await readSettledFile(file, pauses.settle)).toString()).toBe('second: 2\n');
});

it('links that Kubernetes swaps lead to the new file', async () => {
  for (const [name, text] of Object.entries({ one: 'first: 1\n', two: 'second: 2\n' })) {
    await mkdir(join(folder, name));
    await writeFile(join(folder, name, 'config.yaml'), text);
  }
  await symlink('one', join(folder, '..data'));
  await symlink('..data/config.yaml', join(folder, 'config.yaml'));
  const pauses = between(async () => {
    await symlink('two', join(folder, '..data_tmp'));
    await rename(join(folder, '..data_tmp'), join(folder, '..data'));
  });
  expect((await readSettledFile(join(folder, 'config.yaml'), pauses.settle)).toString()).toBe('second: 2\n');
});

it('a file that keeps changing is given up', async () => {
  let size = 0;
  const grow = (): Promise<void> => writeFile(file, 'x'.repeat(++size));
  await expect(readSettledFile(file, grow)).rejects.toThrow('is being written');
  expect(size).toBeLessThan(20);
});

it('a file that disappears while it is read is missing', async () => {
  await expect(readSettledFile(file, () => rm(file, { force: true }))).rejects.toThrow('ENOENT');
});

it('a folder, a dangling link and an endless file are refused', async () => {
  const link = join(folder, 'link');
  await symlink('nowhere', link);
  await truncate(file, 17 * 2 ** 20);
  await expect(readSettledFile(folder, between().settle)).rejects.toThrow(/not a file|EISDIR/);
  await expect(readSettledFile(link, between().settle)).rejects.toThrow('ENOENT');
  await expect(readSettledFile(file, between().settle)).rejects.toThrow('larger');
  await expect(readSettledFile('/dev/zero', between().settle)).rejects.toThrow('not a file');
});

it('a pipe is read once', async () => {
  const pipe = join(folder, 'pipe');
  await runProgram('mkfifo', [pipe]);
  const reading = readSettledFile(pipe, between().settle);
  await writeFile(pipe, 'piped: 1\n');
  expect((await reading).toString()).toBe('piped: 1\n');
});

it('a pipe that replaces a file does not block', async () => {
  const pauses = between(async () => {
    await rm(file);
    await runProgram('mkfifo', [file]);
  });
  await expect(readSettledFile(file, pauses.settle)).rejects.toThrow('not a file');
});
