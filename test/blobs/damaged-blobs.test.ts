import { appendFile, mkdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobStore } from '../../src/blobs/blob-store.ts';
import { DigestPool } from '../../src/blobs/verification/digest-pool.ts';
import { readVerifiedBlob } from '../../src/blobs/read-verified-blob.ts';
import { type Digest, digestOf } from '../../src/core/digest.ts';
import { SpandrelError } from '../../src/core/errors.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { Events } from '../../src/telemetry/events.ts';
import type { BlobSource } from '../../src/core/sources/blob-source.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob, readRange, readWhole } from '../helpers/layers/random-blob.ts';
import { rot, storedPath } from '../helpers/faults/stored-files.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const DIGEST_THREAD = new URL('../../src/blobs/verification/digest-worker.ts', import.meta.url);
const MIB = 2 ** 20;
const blob = randomBlob(MIB + 5, 1);
const digest = digestOf(blob);

let root: string;
let events: Events;

beforeEach(async () => {
  root = await temporaryFolder();
});

async function openStore(): Promise<BlobStore> {
  events = new Events(collectingLogger());
  const fill = { parallel: 3, chunkBytes: 256 * 1024 };
  return await blobStore({ root, maxBytes: 100 * MIB, fill, events });
}

/** A store that is opened by another process than the one that has filled it. */
async function filledStore(bytes = blob): Promise<BlobStore> {
  await using store = await openStore();
  await fetchWhole(store, new MemorySource(bytes), bytes);
  await store[Symbol.asyncDispose]();
  return openStore();
}

async function fetchWhole(store: BlobStore, source: BlobSource, bytes = blob): Promise<void> {
  await using handle = await store.openBlob(digestOf(bytes), source, {
    provenBytes: provenBytes(bytes.byteLength),
  });
  await handle.completed();
}

function pathOf(name: Digest): string {
  return storedPath(root, 'blobs', name);
}

async function condemned(damage: string): Promise<number> {
  const { text } = await events.printMetrics();
  const line = text.split('\n').find((one) => one.includes(`{kind="blob",damage="${damage}"}`));
  return Number(line?.split(' ').at(-1) ?? 0);
}

const DOWN: BlobSource = {
  fetch: () => Promise.reject(new SpandrelError('UPSTREAM_UNREACHABLE', 'down')),
};

/** Kinds of damage to a stored file, with their names. */
const DAMAGES: [string, string, (path: string) => Promise<void>][] = [
  ['shorter', 'size', (path) => truncate(path, MIB / 2)],
  ['empty', 'size', (path) => truncate(path, 0)],
  ['longer', 'size', (path) => appendFile(path, 'x')],
  ['gone', 'missing', (path) => rm(path)],
  [
    'a folder with something in it',
    'unreadable',
    async (path) => {
      await rm(path);
      await mkdir(path);
      await writeFile(join(path, 'a'), 'b');
    },
  ],
];

describe('a stored blob whose file is', () => {
  for (const [what, damage, spoil] of DAMAGES) {
    it(`${what} after a restart is a miss, counted once, and fetched again`, async () => {
      await (await filledStore())[Symbol.asyncDispose]();
      await spoil(pathOf(digest));
      const store = await openStore();
      expect(await condemned(damage)).toBe(1);
      expect(await store.storedSize(digest)).toBeUndefined();
      const source = new MemorySource(blob);
      await using reader = await store.readBlob(digest, source);
      expect((await readWhole(reader)).equals(blob)).toBe(true);
      expect(source.bytesSent).toBe(blob.byteLength);
      await fetchWhole(store, DOWN);
      expect(await condemned(damage)).toBe(1);
    });

    it(`${what} while the store is open is a miss for new readers and for its size`, async () => {
      const store = await filledStore();
      await spoil(pathOf(digest));
      expect(await store.storedSize(digest)).toBeUndefined();
      expect(await condemned(damage)).toBe(1);
      const source = new MemorySource(blob);
      await using reader = await store.readBlob(digest, source);
      const range = { start: MIB - 10, end: MIB };
      expect((await readRange(reader, range)).equals(blob.subarray(range.start, range.end))).toBe(true);
      await fetchWhole(store, source);
      expect(source.bytesSent).toBe(blob.byteLength);
    });

    it(`${what} while it is open gives readers and a build by its name right bytes`, async () => {
      const store = await filledStore();
      {
        await using _ = await store.readBlob(digest, DOWN);
      }
      await spoil(pathOf(digest));
      const source = new MemorySource(blob);
      await using reader = await store.readBlob(digest, source);
      expect((await readWhole(reader)).equals(blob)).toBe(true);
      await using handle = await store.openBlob(digest, source);
      await handle.completed();
      expect((await readWhole(handle)).equals(blob)).toBe(true);
      expect(source.bytesSent).toBe(blob.byteLength);
    });
  }

  it('damaged while the upstream is unreachable gives a clear error, and no bytes', async () => {
    const store = await filledStore();
    await rot(pathOf(digest), 100);
    await using reader = await store.readBlob(digest, DOWN, { provenBytes: provenBytes(blob.byteLength) });
    await expect(readWhole(reader)).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
    await expect(store.openBlob(digest, DOWN)).rejects.toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
  });
});

describe('a stored blob in which a bit has changed', () => {
  it.each([1, 65_536, 65_537, 9 * MIB])(
    'while the store was closed never ends cleanly: %i bytes',
    async (sizeBytes) => {
      const large = randomBlob(sizeBytes, 2);
      const name = digestOf(large);
      const store = await filledStore(large);
      await rot(pathOf(name), Math.floor(sizeBytes / 2));
      const source = new MemorySource(large);
      await using reader = await store.readBlob(name, source);
      const read = readWhole(reader);
      // Bytes of a large blob that have been sent cannot be taken back.
      if (sizeBytes < MIB) expect((await read).equals(large)).toBe(true);
      else await expect(read).rejects.toMatchObject({ code: 'STORE_FAILED' });
      await using again = await store.readBlob(name, source);
      expect((await readWhole(again)).equals(large)).toBe(true);
      expect(await condemned('digest')).toBe(1);
      expect(source.bytesSent).toBe(sizeBytes);
    },
  );

  it('is hashed once after a restart, however often it is read', async () => {
    const store = await filledStore();
    for (let round = 0; round < 3; round++) {
      await using reader = await store.readBlob(digest, DOWN);
      expect((await readWhole(reader)).equals(blob)).toBe(true);
    }
    // One that has changed since is left to the scrub: it costs too much to hash what is read each time.
    await rot(pathOf(digest), 5);
    await using reader = await store.readBlob(digest, DOWN);
    expect((await readWhole(reader)).equals(blob)).toBe(false);
    expect(await store.verify(digest)).toBe(false);
    expect(await store.verify(digest)).toBe(false);
    await expect(readRange(reader, { start: 0, end: 1 })).rejects.toMatchObject({
      code: 'UPSTREAM_UNREACHABLE',
    });
  });

  it('is neither condemned nor fetched if it is right', async () => {
    const store = await filledStore();
    expect(await store.verify(digest)).toBe(true);
    expect(await store.suspect(digest)).toBe(true);
    await fetchWhole(store, DOWN);
    expect(await condemned('digest')).toBe(0);
  });
});

describe('a small blob that a document is made from', () => {
  it('is verified each time, and fetched again if it is wrong', async () => {
    const store = await openStore();
    const source = new MemorySource(blob);
    const read = (): Promise<Buffer> =>
      readVerifiedBlob(
        store,
        digest,
        () => store.readBlob(digest, source, { provenBytes: provenBytes(blob.byteLength) }),
        { maxBytes: blob.byteLength, code: 'IMAGE_UNSUPPORTED' },
      );
    expect((await read()).equals(blob)).toBe(true);
    await fetchWhole(store, DOWN);
    await rot(pathOf(digest), MIB);
    expect((await read()).equals(blob)).toBe(true);
    expect(source.bytesSent).toBe(2 * blob.byteLength);
    expect(await condemned('digest')).toBe(1);
  });
});

describe('a blob without a record of its verification', () => {
  it('is verified before it is used: one that is right is not fetched', async () => {
    await (await filledStore())[Symbol.asyncDispose]();
    for (const suffix of ['', '-wal', '-shm']) await rm(join(root, `verified${suffix}`), { force: true });
    const store = await openStore();
    expect(await store.storedSize(digest)).toBeUndefined();
    await fetchWhole(store, DOWN);
    expect(await store.storedSize(digest)).toBe(blob.byteLength);
  });

  it('is verified before it is used: one that is wrong is fetched', async () => {
    await (await filledStore())[Symbol.asyncDispose]();
    await writeFile(join(root, 'verified'), 'no database');
    await truncate(pathOf(digest), 5);
    const store = await openStore();
    const source = new MemorySource(blob);
    await using reader = await store.readBlob(digest, source);
    expect(reader.sizeBytes).toBe(blob.byteLength);
    expect((await readWhole(reader)).equals(blob)).toBe(true);
    expect(source.bytesSent).toBe(blob.byteLength);
  });
});

describe('a digest thread that cannot start', () => {
  it('condemns no blob: stored ones are served, others not kept, all verified later', async () => {
    await (await filledStore())[Symbol.asyncDispose]();
    const entry = join(root, 'thread.mjs');
    await writeFile(entry, 'process.exit(1);');
    events = new Events(collectingLogger());
    const digests = new DigestPool({ entry: pathToFileURL(entry) });
    const fill = { parallel: 3, chunkBytes: 256 * 1024 };
    const store = await blobStore({ root, maxBytes: 100 * MIB, fill, events, digests });
    const other = randomBlob(MIB + 7, 2);
    const fetched = fetchWhole(store, new MemorySource(other), other);
    const failing = { code: 'WORKER_FAILED' };
    await Promise.all([
      expect(store.verify(digest)).rejects.toMatchObject(failing),
      expect(fetched).rejects.toMatchObject(failing),
    ]);
    await using stored = await store.readBlob(digest, DOWN);
    expect((await readWhole(stored)).equals(blob)).toBe(true);
    expect(await condemned('unreadable')).toBe(0);
    expect(store.stat(digestOf(other))).toMatchObject({ state: 'partial' });

    await writeFile(entry, `export * from ${JSON.stringify(DIGEST_THREAD.href)};`);
    // Threads are tried again after a pause.
    const verified = (): Promise<boolean> => store.verify(digest).catch(() => false);
    await expect.poll(verified, { timeout: 10_000 }).toBe(true);
    const source = new MemorySource(other);
    await fetchWhole(store, source, other);
    // All of it had come: it only had to be hashed.
    expect(source.bytesSent).toBe(0);
    expect(store.stat(digestOf(other))).toMatchObject({ state: 'complete' });
  });
});
