import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { describe, expect, it } from 'vitest';

import { Removals } from '../../../src/blobs/files/removals.ts';
import { digestOf } from '../../../src/core/digest.ts';
import { blobStore } from '../../helpers/blob-store.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { MemorySource } from '../../helpers/layers/memory-source.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { ReadOnlyFolder } from '../../helpers/faults/read-only-folder.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

/** Fails `failures` times. */
class Removal {
  calls = 0;
  readonly #failures: number;

  constructor(failures: number) {
    this.#failures = failures;
  }

  readonly run = async (): Promise<void> => {
    if (this.calls++ < this.#failures) throw new Error('read-only file system');
  };
}

function removals(firstPauseMs: number): Removals {
  return cleanup.use(new Removals({ logger: collectingLogger(), firstPauseMs }));
}

describe('a removal', () => {
  it('a removal that fails is tried again until it succeeds', async () => {
    const all = removals(1);
    const [stubborn, quick] = [new Removal(4), new Removal(1)];
    await all.run('stubborn', stubborn.run);
    await all.run('quick', quick.run);
    expect(all.waiting).toBe(2);
    await expect.poll(() => all.waiting).toBe(0);
    expect([stubborn.calls, quick.calls]).toEqual([5, 2]);
  });

  it('a removal that succeeds is not repeated', async () => {
    const all = removals(1);
    const removal = new Removal(0);
    await all.run('file', removal.run);
    expect([all.waiting, removal.calls]).toEqual([0, 1]);
  });

  it('a removal that has failed is tried once more at the end', async () => {
    const all = removals(1e6);
    const removal = new Removal(1);
    await all.run('file', removal.run);
    await all[Symbol.asyncDispose]();
    expect([all.waiting, removal.calls]).toEqual([0, 2]);
  });
});

describe('a store whose file system becomes read-only', () => {
  it('a store removes what it gave up once its file system can be written again', async () => {
    const root = await temporaryFolder();
    const store = await blobStore({ root });
    const [given, kept] = [randomBlob(200_000, 1), randomBlob(200_000, 2)];
    for (const blob of [given, kept]) {
      await using handle = await store.openBlob(digestOf(blob), new MemorySource(blob));
      await handle.completed();
    }
    const source = new MemorySource(kept);
    {
      await using _readOnly = await ReadOnlyFolder.create(root);
      for (const blob of [given, kept]) expect(await store.deleteBlob(digestOf(blob))).toBe(true);
      expect(await blobFiles(root)).toHaveLength(2);
    }
    // One is stored again before the removal is repeated.
    await using handle = await store.openBlob(digestOf(kept), source);
    await handle.completed();
    await expect.poll(() => blobFiles(root), { timeout: 20_000 }).toEqual([digestOf(kept).slice(7)]);
    expect(store.stat(digestOf(kept))).toMatchObject({ state: 'complete' });
    expect(await store.verify(digestOf(kept))).toBe(true);
  });
});

async function blobFiles(root: string): Promise<string[]> {
  const names = await readdir(join(root, 'blobs'), { recursive: true });
  return names.map((name) => name.slice(name.lastIndexOf('/') + 1)).filter((name) => name.length === 64);
}
