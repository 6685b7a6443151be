import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobStore } from '../../src/blobs/blob-store.ts';
import { digestOf } from '../../src/core/digest.ts';
import { SpandrelError } from '../../src/core/errors.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import type { BlobSource } from '../../src/core/sources/blob-source.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob, readRange, readWhole } from '../helpers/layers/random-blob.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const KIB = 1024;
const CHUNK_BYTES = 512 * KIB;

let root: string;
let store: BlobStore;

beforeEach(async () => {
  root = await temporaryFolder();
  store = await open();
});

function open(maxBytes = 100 * 2 ** 20, more: object = {}): Promise<BlobStore> {
  const fill = { parallel: 3, chunkBytes: CHUNK_BYTES, background: false, ...more };
  return blobStore({ root, maxBytes, fill });
}

const blob = randomBlob(12 * CHUNK_BYTES + 77, 1);
const digest = digestOf(blob);
const sizeBytes = blob.byteLength;

describe('a fill without background', () => {
  it('fetches what is read and some KiB around it, once', async () => {
    const source = new MemorySource(blob);
    const ranges = [
      { start: 3 * CHUNK_BYTES + 100 * KIB, end: 3 * CHUNK_BYTES + 200 * KIB },
      { start: 3 * CHUNK_BYTES + 150 * KIB, end: 3 * CHUNK_BYTES + 300 * KIB },
      { start: sizeBytes - 10, end: sizeBytes },
      { start: 5 * CHUNK_BYTES - 1, end: 5 * CHUNK_BYTES + 1 },
    ];
    for (let round = 0; round < 2; round++) {
      for (const range of ranges) {
        await using handle = await store.openBlob(digest, source, { provenBytes: provenBytes(sizeBytes) });
        expect((await readRange(handle, range)).equals(blob.subarray(range.start, range.end))).toBe(true);
      }
    }
    expect(source.requests.map((range) => range && range.end - range.start)).toEqual([
      192 * KIB,
      64 * KIB,
      77,
      64 * KIB,
      64 * KIB,
    ]);
    expect(store.usage().bytes).toBe(source.bytesSent);
    expect(store.stat(digest)).toMatchObject({ state: 'partial' });
  });

  it('keeps its bytes across a restart, and counts only them', async () => {
    const source = new MemorySource(blob);
    const range = { start: 2 * CHUNK_BYTES, end: 3 * CHUNK_BYTES };
    for (let round = 0; round < 2; round++) {
      {
        await using reader = await store.readBlob(digest, source, { provenBytes: provenBytes(sizeBytes) });
        expect((await readRange(reader, range)).equals(blob.subarray(range.start, range.end))).toBe(true);
      }
      await store[Symbol.asyncDispose]();
      store = await open();
      expect(store.usage().bytes).toBe(CHUNK_BYTES);
    }
    expect(source.bytesSent).toBe(CHUNK_BYTES);
  });

  it('fetches all of a blob that is read whole, in parallel, and verifies it', async () => {
    const source = new MemorySource(blob);
    await using handle = await store.openBlob(digest, source, { provenBytes: provenBytes(sizeBytes) });
    expect((await readWhole(handle)).equals(blob)).toBe(true);
    await handle.completed();
    expect(source.bytesSent).toBe(sizeBytes);
    expect(store.stat(digest)).toMatchObject({ state: 'complete' });
  });

  it('ends when its last reader leaves, and the next reader resumes it', async () => {
    const rest = Promise.withResolvers<void>();
    const signals: AbortSignal[] = [];
    const memory = new MemorySource(blob, {
      beforePiece: (position) => (position >= 2 * CHUNK_BYTES ? rest.promise : undefined),
    });
    const source: typeof memory = Object.assign(Object.create(memory) as typeof memory, {
      fetch: (...[range, signal]: Parameters<MemorySource['fetch']>) => {
        signals.push(signal);
        return memory.fetch(range, signal);
      },
    });
    const handle = await store.openBlob(digest, source, { provenBytes: provenBytes(sizeBytes) });
    for await (const chunk of handle.read({ start: 0, end: sizeBytes })) if (chunk.byteLength > 0) break;
    const stopped = handle.completed();
    const closed = handle[Symbol.asyncDispose]();
    rest.resolve();
    await Promise.all([stopped, closed]);
    expect(signals.some(({ aborted }) => aborted)).toBe(true);
    expect(memory.bytesSent).toBeLessThan(sizeBytes);
    const before = memory.bytesSent;
    const held = store.usage().bytes;
    await using again = await store.openBlob(digest, memory, { provenBytes: provenBytes(sizeBytes) });
    expect((await readWhole(again)).equals(blob)).toBe(true);
    expect(memory.bytesSent - before).toBe(sizeBytes - held);
  });

  it('gets a background when a reader needs the whole blob', async () => {
    const source = new MemorySource(blob);
    await using part = await store.openBlob(digest, source, { provenBytes: provenBytes(sizeBytes) });
    expect((await readRange(part, { start: 5, end: 10 })).equals(blob.subarray(5, 10))).toBe(true);
    {
      await using whole = await store.openBlob(digest, source, {
        provenBytes: provenBytes(sizeBytes),
        complete: true,
      });
      expect(whole.source).toBe('fill');
    }
    await part.completed();
    expect(store.stat(digest)).toMatchObject({ state: 'complete' });
    expect(source.bytesSent).toBe(sizeBytes);
  });

  it('holds parts of a blob that would not fit as a whole', async () => {
    await store[Symbol.asyncDispose]();
    store = await open(2 ** 20);
    const source = new MemorySource(blob);
    for (const start of [0, 2 * CHUNK_BYTES, 4 * CHUNK_BYTES + 7, 6 * CHUNK_BYTES]) {
      const range = { start, end: start + 200 * KIB };
      await using reader = await store.readBlob(digest, source, { provenBytes: provenBytes(sizeBytes) });
      expect((await readRange(reader, range)).equals(blob.subarray(range.start, range.end))).toBe(true);
      expect(store.usage().bytes).toBeLessThanOrEqual(2 ** 20);
    }
    await expect(
      store.openBlob(digest, source, { provenBytes: provenBytes(sizeBytes), complete: true }),
    ).rejects.toMatchObject({
      code: 'STORE_FULL',
    });
    await using reader = await store.readBlob(digest, source, { provenBytes: provenBytes(sizeBytes) });
    expect((await readWhole(reader)).equals(blob)).toBe(true);
  });

  it('stores the whole blob if the upstream ignores ranges', async () => {
    const source = new MemorySource(blob, { ranges: false });
    await using handle = await store.openBlob(digest, source, { provenBytes: provenBytes(sizeBytes) });
    const range = { start: 5 * CHUNK_BYTES, end: 5 * CHUNK_BYTES + 10 };
    expect((await readRange(handle, range)).equals(blob.subarray(range.start, range.end))).toBe(true);
    expect(source.requests).toHaveLength(1);
  });

  it('fails like any other, and leaves no reader waiting', async () => {
    const source = new MemorySource(blob, {
      beforePiece: () => {
        throw new SpandrelError('BLOB_UNKNOWN', 'gone');
      },
    });
    await using handle = await store.openBlob(digest, source, { provenBytes: provenBytes(sizeBytes) });
    await expect(readRange(handle, { start: 5, end: 10 })).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
    expect(await readdir(join(root, 'partial'))).toEqual([]);
  });
});

describe('blobs that wait for their turn', () => {
  it('of one repository do not delay those of others', async () => {
    await store[Symbol.asyncDispose]();
    store = await open(undefined, { blobs: 1, maxWaiting: 100 });
    const asked: string[] = [];
    const release = Promise.withResolvers<void>();
    const pull = async (origin: string, seed: number): Promise<void> => {
      const bytes = randomBlob(1000 + seed, seed);
      const memory = new MemorySource(bytes, { beforePiece: () => release.promise });
      const source: BlobSource = {
        repositoryKey: origin,
        fetch: (range, signal) => {
          asked.push(origin);
          return memory.fetch(range, signal);
        },
      };
      await using handle = await store.openBlob(digestOf(bytes), source, { complete: true });
      await handle.completed();
    };
    const many = Array.from({ length: 40 }, (_, place) => pull('hub/many', 100 + place));
    const few = [pull('hub/few', 200), pull('ecr/few', 201)];
    await expect.poll(() => asked).toEqual(['hub/many']);
    release.resolve();
    await Promise.all([...many, ...few]);
    expect(asked).toHaveLength(42);
    // One has begun before they asked, one may have had its turn before theirs.
    expect(asked.indexOf('hub/few')).toBeLessThanOrEqual(3);
    expect(asked.indexOf('ecr/few')).toBeLessThanOrEqual(4);
  });
});
