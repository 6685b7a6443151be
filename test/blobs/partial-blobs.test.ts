import { open as openFile, readdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobStore } from '../../src/blobs/blob-store.ts';
import { digestOf } from '../../src/core/digest.ts';
import { SpandrelError } from '../../src/core/errors.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob, readRange, readWhole } from '../helpers/layers/random-blob.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const CHUNK_BYTES = 64 * 1024;

let root: string;
let store: BlobStore;

beforeEach(async () => {
  root = await temporaryFolder();
  store = await open();
});

function open(options: { maxBytes?: number; background?: boolean } = {}): Promise<BlobStore> {
  const { maxBytes = 100 * 2 ** 20, background = true } = options;
  const fill = { parallel: 3, chunkBytes: CHUNK_BYTES, background };
  return blobStore({ root, maxBytes, fill });
}

async function restart(options?: Parameters<typeof open>[0]): Promise<void> {
  await store[Symbol.asyncDispose]();
  store = await open(options);
}

async function partialNames(): Promise<string[]> {
  return (await readdir(join(root, 'partial'))).toSorted();
}

/** The path of the one partial file there is. */
async function partialPath(): Promise<string> {
  const [name = ''] = await partialNames();
  return join(root, 'partial', name);
}

/** Leave `blob` in the store without its last `missingChunks`; says how much of it has been fetched. */
async function fetchBeginning(blob: Buffer, missingChunks: number): Promise<number> {
  const source = new MemorySource(blob, {
    beforePiece: (position) => {
      if (position >= blob.byteLength - missingChunks * CHUNK_BYTES)
        throw new SpandrelError('BLOB_UNKNOWN', 'gone');
    },
  });
  await using handle = await store.openBlob(digestOf(blob), source, {
    provenBytes: provenBytes(blob.byteLength),
  });
  await expect(handle.completed()).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
  return source.bytesSent;
}

describe('the partial blob of a fill', () => {
  it('is resumed after a restart: no intact piece is fetched again', async () => {
    const blob = randomBlob(20 * CHUNK_BYTES + 5, 1);
    const fetched = await fetchBeginning(blob, 4);
    expect(store.stat(digestOf(blob))).toEqual({
      digest: digestOf(blob),
      sizeBytes: blob.byteLength,
      state: 'partial',
    });
    await restart();
    expect(store.stat(digestOf(blob))).toMatchObject({ state: 'partial' });
    const source = new MemorySource(blob);
    await using handle = await store.openBlob(digestOf(blob), source);
    expect((await readWhole(handle)).equals(blob)).toBe(true);
    expect(fetched).toBeGreaterThanOrEqual(12 * CHUNK_BYTES);
    expect(source.bytesSent).toBe(blob.byteLength - fetched);
  });

  it('is resumed in the same process', async () => {
    const blob = randomBlob(10 * CHUNK_BYTES, 2);
    const fetched = await fetchBeginning(blob, 2);
    const source = new MemorySource(blob);
    await using handle = await store.openBlob(digestOf(blob), source);
    await handle.completed();
    expect(source.bytesSent).toBe(blob.byteLength - fetched);
    await using stored = await store.openBlob(digestOf(blob), source);
    expect((await readWhole(stored)).equals(blob)).toBe(true);
  });

  it('stays readable by its name until its last reader leaves', async () => {
    const blob = randomBlob(10 * CHUNK_BYTES, 10);
    const failing = new MemorySource(blob, {
      beforePiece: (position) => {
        if (position >= 8 * CHUNK_BYTES) throw new SpandrelError('BLOB_UNKNOWN', 'gone');
      },
    });
    const before = await store.openBlob(digestOf(blob), failing, {
      provenBytes: provenBytes(blob.byteLength),
    });
    await expect(before.completed()).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    const after = await store.openBlob(digestOf(blob), new MemorySource(blob));
    await after.completed();
    await before[Symbol.asyncDispose]();
    expect((await readFile(after.path)).equals(blob)).toBe(true);
    await after[Symbol.asyncDispose]();
    expect(await partialNames()).toEqual([]);
  });

  it('is not used where it is wrong: a flipped bit costs only its piece', async () => {
    const blob = randomBlob(20 * CHUNK_BYTES, 3);
    const fetched = await fetchBeginning(blob, 4);
    await store[Symbol.asyncDispose]();
    const path = await partialPath();
    const file = await openFile(path, 'r+');
    await file.write(Buffer.from([(blob[3 * CHUNK_BYTES + 9] ?? 0) ^ 4]), 0, 1, 3 * CHUNK_BYTES + 9);
    await file.close();
    store = await open();
    const source = new MemorySource(blob);
    await using handle = await store.openBlob(digestOf(blob), source);
    const wanted = { start: 3 * CHUNK_BYTES, end: 4 * CHUNK_BYTES };
    expect((await readRange(handle, wanted)).equals(blob.subarray(wanted.start, wanted.end))).toBe(true);
    await handle.completed();
    expect(source.bytesSent).toBe(blob.byteLength - fetched + CHUNK_BYTES);
  });

  it('is not used where a crash has torn the data, the map, or both', async () => {
    const blob = randomBlob(20 * CHUNK_BYTES, 4);
    await fetchBeginning(blob, 4);
    await store[Symbol.asyncDispose]();
    const path = await partialPath();
    const map = await readFile(`${path}.map`);
    const data = await readFile(path);
    for (const [dataBytes, mapBytes] of [
      [7 * CHUNK_BYTES + 100, map.byteLength],
      [data.byteLength, map.byteLength - 7],
      [data.byteLength, 100],
      [data.byteLength, 3],
      [0, map.byteLength],
      [data.byteLength, 0],
    ] as const) {
      await rm(join(root, 'blobs'), { recursive: true });
      await writeFile(path, data);
      await truncate(path, dataBytes);
      await writeFile(`${path}.map`, map.subarray(0, mapBytes));
      store = await open();
      const source = new MemorySource(blob);
      {
        await using handle = await store.openBlob(digestOf(blob), source, {
          provenBytes: provenBytes(blob.byteLength),
        });
        expect((await readWhole(handle)).equals(blob)).toBe(true);
        await handle.completed();
      }
      expect(source.bytesSent).toBeLessThanOrEqual(blob.byteLength);
      expect(await partialNames()).toEqual([]);
      await store[Symbol.asyncDispose]();
    }
    store = await open();
  });

  it('survives a torn line of its map: later lines count', async () => {
    const blob = randomBlob(20 * CHUNK_BYTES, 5);
    const first = await fetchBeginning(blob, 10);
    await store[Symbol.asyncDispose]();
    const path = `${await partialPath()}.map`;
    await truncate(path, (await stat(path)).size - 5);
    store = await open();
    const second = await fetchBeginning(blob, 2);
    await restart();
    const source = new MemorySource(blob);
    await using handle = await store.openBlob(digestOf(blob), source);
    expect((await readWhole(handle)).equals(blob)).toBe(true);
    expect(source.bytesSent + first + second).toBeLessThanOrEqual(blob.byteLength + CHUNK_BYTES);
  });

  it('is removed when it does not match the digest', async () => {
    const blob = randomBlob(8 * CHUNK_BYTES, 6);
    const wrong = Buffer.from(blob);
    wrong[5] = (wrong[5] ?? 0) ^ 1;
    const digest = digestOf(blob);
    {
      const source = new MemorySource(wrong, {
        beforePiece: (position) => {
          if (position >= 6 * CHUNK_BYTES) throw new SpandrelError('BLOB_UNKNOWN', 'gone');
        },
      });
      await using handle = await store.openBlob(digest, source);
      await expect(handle.completed()).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    }
    {
      await using handle = await store.openBlob(digest, new MemorySource(blob));
      await expect(readWhole(handle)).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
    }
    expect(await partialNames()).toEqual([]);
    expect(store.usage().bytes).toBe(0);
    await using handle = await store.openBlob(digest, new MemorySource(blob));
    expect((await readWhole(handle)).equals(blob)).toBe(true);
  });

  it('counts its bytes, also after a restart, and is evicted like any blob', async () => {
    await restart({ maxBytes: 2 ** 20 });
    const partial = randomBlob(14 * CHUNK_BYTES, 7);
    const fetched = await fetchBeginning(partial, 4);
    expect(store.usage()).toMatchObject({ bytes: fetched, blobs: 0 });
    await restart({ maxBytes: 2 ** 20 });
    expect(store.usage().bytes).toBeGreaterThanOrEqual(fetched);
    expect(store.usage().bytes).toBeLessThanOrEqual(fetched + 8192);
    const other = randomBlob(8 * CHUNK_BYTES, 8);
    await using handle = await store.openBlob(digestOf(other), new MemorySource(other));
    await handle.completed();
    expect(store.stat(digestOf(partial))).toBeUndefined();
    expect((await partialNames()).some((name) => name.includes(digestOf(partial).slice(7)))).toBe(false);
  });

  it('can be deleted', async () => {
    const blob = randomBlob(8 * CHUNK_BYTES, 9);
    await fetchBeginning(blob, 2);
    expect(await store.deleteBlob(digestOf(blob))).toBe(true);
    expect(await partialNames()).toEqual([]);
  });
});
