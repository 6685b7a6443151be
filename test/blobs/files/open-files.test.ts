import { readdir, readlink, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import { OpenFiles } from '../../../src/blobs/files/open-files.ts';
import { ReadMemory } from '../../../src/blobs/files/read-memory.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

let folder: string;

beforeEach(async () => {
  folder = await temporaryFolder();
  for (const name of ['a', 'b', 'c', 'd']) await writeFile(join(folder, name), name.repeat(10));
});

/** Names of the files of the folder that this process has open, removed ones included. */
async function open(): Promise<string[]> {
  const targets = await Promise.all(
    (await readdir('/proc/self/fd')).map((fd) => readlink(`/proc/self/fd/${fd}`).catch(() => '')),
  );
  return targets.filter((path) => path.startsWith(folder)).map((path) => path.slice(folder.length + 1));
}

describe('open files', () => {
  it('are opened once for all readers, and stay open for the next one', async () => {
    await using files = new OpenFiles(new ReadMemory());
    const path = join(folder, 'a');
    const [one, two] = await Promise.all([files.open(path), files.open(path)]);
    expect(one.handle).toBe(two.handle);
    await Promise.all([one[Symbol.asyncDispose](), two[Symbol.asyncDispose]()]);
    expect(await open()).toEqual(['a']);
    await using again = await files.open(path);
    expect(again.handle).toBe(one.handle);
  });

  it('without readers are closed, the least recently used first', async () => {
    await using files = new OpenFiles(new ReadMemory(), 2);
    for (const name of ['a', 'b', 'a', 'c', 'd']) {
      await using _ = await files.open(join(folder, name));
    }
    expect((await open()).toSorted()).toEqual(['c', 'd']);
  });

  it('that are removed are read to the end by current readers only', async () => {
    await using files = new OpenFiles(new ReadMemory());
    const path = join(folder, 'a');
    const reader = await files.open(path);
    await files.forget(path);
    await writeFile(join(folder, 'new'), 'new');
    await rm(path);
    await writeFile(path, 'other');
    await using again = await files.open(path);
    expect(String((await again.handle.read()).buffer.subarray(0, 5))).toBe('other');
    expect(String((await reader.handle.read()).buffer.subarray(0, 10))).toBe('aaaaaaaaaa');
    await reader[Symbol.asyncDispose]();
    expect(await open()).toEqual(['a']);
  });

  it('without readers are closed at once when they are removed', async () => {
    await using files = new OpenFiles(new ReadMemory());
    const path = join(folder, 'a');
    {
      await using _ = await files.open(path);
    }
    await files.forget(path);
    expect(await open()).toEqual([]);
  });

  it('that cannot be opened are tried again by the next reader', async () => {
    await using files = new OpenFiles(new ReadMemory());
    const path = join(folder, 'missing');
    await expect(files.open(path)).rejects.toMatchObject({ code: 'ENOENT' });
    await writeFile(path, 'x');
    await using found = await files.open(path);
    expect((await found.handle.stat()).size).toBe(1);
  });
});
