import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobStore } from '../../src/blobs/blob-store.ts';
import { digestOf } from '../../src/core/digest.ts';
import type { BlobSource } from '../../src/core/sources/blob-source.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { MemorySource, type MemorySourceOptions } from '../helpers/layers/memory-source.ts';
import { randomBlob, readRange, readWhole } from '../helpers/layers/random-blob.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const CHUNK_BYTES = 64 * 1024;
const blob = randomBlob(10 * CHUNK_BYTES, 7);
const digest = digestOf(blob);
const sizeBytes = blob.byteLength;
const HEAD = { start: 0, end: 100 };

let root: string;
let store: BlobStore;

beforeEach(async () => {
  root = await temporaryFolder();
  store = await openStore();
});

async function openStore(maxBytes = 2 ** 30): Promise<BlobStore> {
  const fill = { parallel: 3, chunkBytes: CHUNK_BYTES, background: false };
  return await blobStore({ root, maxBytes, fill });
}

/** As a registry that leads into the private network. */
class PrivateSource extends MemorySource {
  override async fetch(...asked: Parameters<BlobSource['fetch']>): ReturnType<BlobSource['fetch']> {
    const [range, signal] = asked;
    return { ...(await super.fetch(range, signal)), isUnproven: true };
  }
}

/** All but the last piece comes; that one when it is let. */
function withGate(options: MemorySourceOptions = {}): {
  readonly source: PrivateSource;
  readonly release: () => void;
  readonly reached: Promise<void>;
} {
  const { promise: released, resolve: release } = Promise.withResolvers<void>();
  const { promise: reached, resolve: reach } = Promise.withResolvers<void>();
  const beforePiece = async (position: number): Promise<void> => {
    if (position < sizeBytes - 16 * 1024) return;
    reach();
    await released;
  };
  return { source: new PrivateSource(blob, { ...options, beforePiece }), release, reached };
}

/** Settled by now, or `waiting`. */
function stateOf(promise: Promise<unknown>): Promise<unknown> {
  return Promise.race([
    promise.then(() => 'there'),
    new Promise((resolve) => setImmediate(resolve, 'waiting')),
  ]);
}

describe('bytes from the private network', () => {
  it.each([
    ['ranges', true],
    ['no ranges', false],
  ])('are served when the whole blob is verified, from an upstream with %s', async (_what, ranges) => {
    const { source, release, reached } = withGate({ ranges });
    const reader = cleanup.use(await store.readBlob(digest, source, { claimedBytes: sizeBytes }));
    const handle = cleanup.use(await store.openBlob(digest, source, { claimedBytes: sizeBytes }));
    const part = readRange(reader, HEAD);
    const whole = readWhole(reader);
    const located = handle.locate(HEAD);
    const lent = handle.readShared(HEAD).next();
    await reached;
    // The file has most of it by now.
    expect(await stateOf(Promise.race([part, whole, located, lent]))).toBe('waiting');
    expect(handle.growth.availableBytes).toBe(0);
    release();
    expect((await part).equals(blob.subarray(0, 100))).toBe(true);
    expect((await whole).equals(blob)).toBe(true);
    await Promise.all([located, lent]);
    expect([handle.growth.availableBytes, handle.growth.state]).toEqual([sizeBytes, 'complete']);
    expect(source.bytesSent).toBe(sizeBytes);
  });

  it('that do not match the digest are neither served nor kept', async () => {
    const source = new PrivateSource(randomBlob(sizeBytes, 8));
    await using reader = await store.readBlob(digest, source, { claimedBytes: sizeBytes });
    const given: Buffer[] = [];
    const read = async (range: { start: number; end: number }): Promise<void> => {
      for await (const bytes of reader.read(range)) given.push(bytes);
    };
    for (const range of [HEAD, { start: 0, end: sizeBytes }, { start: sizeBytes - 10, end: sizeBytes }])
      await expect(read(range)).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
    expect(given).toEqual([]);
    expect(await readdir(join(root, 'partial'))).toEqual([]);
    expect(store.stat(digest)).toBeUndefined();
  });

  it('that are incomplete are resumed neither by the next fill nor by the next process', async () => {
    const { source, release, reached } = withGate();
    const reader = cleanup.use(await store.readBlob(digest, source, { claimedBytes: sizeBytes }));
    const part = readRange(reader, HEAD);
    part.catch(() => undefined);
    await reached;
    // A process that dies now leaves no map of what is in the file.
    expect((await readdir(join(root, 'partial'))).filter((name) => name.endsWith('.map'))).toEqual([]);
    const closing = store[Symbol.asyncDispose]();
    release();
    await closing;
    await expect(part).rejects.toMatchObject({ code: 'SHUTTING_DOWN' });
    expect(await readdir(join(root, 'partial'))).toEqual([]);
    store = await openStore();
    const next = new MemorySource(blob);
    await using again = await store.readBlob(digest, next, { claimedBytes: sizeBytes });
    expect((await readWhole(again)).equals(blob)).toBe(true);
    expect(next.bytesSent).toBe(sizeBytes);
  });

  it('that the store cannot take are refused, except small blobs that are verified in memory', async () => {
    await store[Symbol.asyncDispose]();
    store = await openStore(2 ** 16);
    await using reader = await store.readBlob(digest, new PrivateSource(blob), { claimedBytes: sizeBytes });
    for (const range of [HEAD, { start: 0, end: sizeBytes }])
      await expect(readRange(reader, range)).rejects.toMatchObject({ code: 'STORE_FULL' });
  });
});
