import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobHandle } from '../../src/blobs/reads/blob-handle.ts';
import type { BlobStore } from '../../src/blobs/blob-store.ts';
import type { ByteRange } from '../../src/core/byte-range.ts';
import { digestOf } from '../../src/core/digest.ts';
import { SpandrelError } from '../../src/core/errors.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const KIB = 1024;
const CHUNK_BYTES = 64 * KIB;

let root: string;
let store: BlobStore;

beforeEach(async () => {
  root = await temporaryFolder();
  store = await open();
});

function open(maxBytes = 100 * 2 ** 20): Promise<BlobStore> {
  const fill = { parallel: 3, chunkBytes: CHUNK_BYTES };
  return blobStore({ root, maxBytes, fill });
}

function blobOf(bytes: number, seed = 1): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Array.from({ length: bytes }, () => Math.floor(random() * 256)));
}

async function readAll(
  handle: BlobHandle,
  range: ByteRange = { start: 0, end: handle.sizeBytes },
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of handle.read(range)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

async function fetchWhole(blob: Buffer): Promise<void> {
  await using handle = await store.openBlob(digestOf(blob), new MemorySource(blob));
  await handle.completed();
}

describe('BlobStore', () => {
  it('fetches a blob once for concurrent readers, and each byte once', async () => {
    const blob = blobOf(1_000_003);
    const source = new MemorySource(blob);
    const readers = Array.from({ length: 50 }, async (_, reader) => {
      await using handle = await store.openBlob(digestOf(blob), source, {
        provenBytes: provenBytes(blob.byteLength),
      });
      const start = reader * 1000;
      return (await readAll(handle, { start, end: handle.sizeBytes })).equals(blob.subarray(start));
    });
    expect(await Promise.all(readers)).toEqual(readers.map(() => true));
    expect(source.bytesSent).toBe(blob.byteLength);
    expect(source.requests).toHaveLength(Math.ceil(blob.byteLength / CHUNK_BYTES));
    await using cached = await store.openBlob(digestOf(blob), source);
    expect(cached.source).toBe('disk');
    expect((await readAll(cached)).equals(blob)).toBe(true);
    expect(source.bytesSent).toBe(blob.byteLength);
  });

  it.each([0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES, 3 * CHUNK_BYTES + 1])(
    'keeps a blob of %i bytes, of known size or not',
    async (bytes) => {
      const [known, unknown] = [blobOf(bytes, 2), blobOf(bytes, 3)];
      await using a = await store.openBlob(digestOf(known), new MemorySource(known), {
        provenBytes: provenBytes(bytes),
      });
      expect((await readAll(a)).equals(known)).toBe(true);
      await using b = await store.openBlob(digestOf(unknown), new MemorySource(unknown));
      expect((await readAll(b)).equals(unknown)).toBe(true);
    },
  );

  it('serves a range in the middle of a cold blob before the rest has arrived', async () => {
    const blob = blobOf(40 * CHUNK_BYTES);
    const rest = Promise.withResolvers<void>();
    const wanted = { start: 30 * CHUNK_BYTES + 5, end: 30 * CHUNK_BYTES + 105 };
    const isWanted = (position: number): boolean =>
      position >= 30 * CHUNK_BYTES && position < 31 * CHUNK_BYTES;
    // Two of the three connections hang until the reader has its bytes.
    let hanging = 0;
    const source = new MemorySource(blob, {
      beforePiece: (position) => (isWanted(position) || ++hanging > 2 ? undefined : rest.promise),
    });
    await using handle = await store.openBlob(digestOf(blob), source, {
      provenBytes: provenBytes(blob.byteLength),
    });
    expect((await readAll(handle, wanted)).equals(blob.subarray(wanted.start, wanted.end))).toBe(true);
    rest.resolve();
    await handle.completed();
    expect(source.bytesSent).toBe(blob.byteLength);
  });

  it('takes the whole blob from one response if the upstream ignores ranges', async () => {
    const blob = blobOf(10 * CHUNK_BYTES + 7);
    const source = new MemorySource(blob, { ranges: false });
    await using handle = await store.openBlob(digestOf(blob), source);
    expect((await readAll(handle)).equals(blob)).toBe(true);
    expect(source.requests).toHaveLength(1);
  });

  it('resumes a broken transfer', async () => {
    const blob = blobOf(4 * CHUNK_BYTES);
    let breaks = 3;
    const source = new MemorySource(blob, {
      beforePiece: (position) => {
        if (position % CHUNK_BYTES === 32 * KIB && breaks-- > 0)
          throw new SpandrelError('UPSTREAM_UNREACHABLE', 'reset');
      },
    });
    await using handle = await store.openBlob(digestOf(blob), source);
    expect((await readAll(handle)).equals(blob)).toBe(true);
    expect(source.bytesSent).toBe(blob.byteLength);
  });

  it('never ends a blob of the wrong digest cleanly, and keeps none of it', async () => {
    const blob = blobOf(5 * CHUNK_BYTES);
    const digest = digestOf(blob);
    const wrong = Buffer.from(blob);
    wrong[1000] = (wrong[1000] ?? 0) ^ 1;
    const handle = await store.openBlob(digest, new MemorySource(wrong), {
      provenBytes: provenBytes(blob.byteLength),
    });
    await expect(readAll(handle)).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
    await expect(handle.completed()).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
    await handle[Symbol.asyncDispose]();
    expect(store.stat(digest)).toBeUndefined();
    expect(store.usage().bytes).toBe(0);
    expect(await readdir(join(root, 'partial'))).toEqual([]);
    await using again = await store.openBlob(digest, new MemorySource(blob));
    expect((await readAll(again)).equals(blob)).toBe(true);
  });

  it('refuses a blob whose upstream sends another size than the verified one', async () => {
    const blob = blobOf(3 * CHUNK_BYTES);
    await using handle = await store.openBlob(digestOf(blob), new MemorySource(blob), {
      provenBytes: provenBytes(blob.byteLength + 1),
    });
    await expect(readAll(handle)).rejects.toMatchObject({ code: 'BLOB_CORRUPT' });
  });

  it.each([
    ['nothing', 0],
    ['one byte less', 3 * CHUNK_BYTES - 1],
    ['one byte more', 3 * CHUNK_BYTES + 1],
    ['one byte', 1],
    ['nearly all that the store may hold', 2 ** 40],
  ])("has the upstream's size if a descriptor claims %s", async (_, claimedBytes) => {
    for (const complete of [false, true]) {
      const blob = blobOf(3 * CHUNK_BYTES, complete ? 2 : 3);
      const source = new MemorySource(blob);
      await using handle = await store.openBlob(digestOf(blob), source, { claimedBytes, complete });
      expect((await readAll(handle)).equals(blob)).toBe(true);
    }
  });

  it('completes a fill after every reader has left', async () => {
    const blob = blobOf(10 * CHUNK_BYTES);
    const handle = await store.openBlob(digestOf(blob), new MemorySource(blob));
    for await (const _ of handle.read({ start: 0, end: 10 })) break;
    const done = handle.completed();
    await handle[Symbol.asyncDispose]();
    await done;
    expect(store.stat(digestOf(blob))).toMatchObject({ state: 'complete' });
  });

  it('finds its blobs again after a restart, without upstream requests', async () => {
    const blob = blobOf(3 * CHUNK_BYTES);
    await fetchWhole(blob);
    await store[Symbol.asyncDispose]();
    store = await open();
    const source = new MemorySource(blob);
    await using handle = await store.openBlob(digestOf(blob), source);
    expect((await readAll(handle)).equals(blob)).toBe(true);
    expect(source.requests).toEqual([]);
  });

  it('stays within its limit: evicts the least recently used blobs, keeps those being read', async () => {
    await store[Symbol.asyncDispose]();
    store = await open(2 ** 20);
    const blobs = Array.from({ length: 4 }, (_, seed) => blobOf(300 * KIB, seed + 10));
    const [first, second, third, fourth] = blobs.map((blob) => digestOf(blob));
    for (const blob of blobs.slice(0, 3)) await fetchWhole(blob);
    const pinned = await store.openBlob(first ?? digestOf(''), new MemorySource(Buffer.alloc(0)));
    await fetchWhole(blobs[3] ?? Buffer.alloc(0));
    expect(
      [first, second, third, fourth].map(
        (digest) => digest !== undefined && store.stat(digest) !== undefined,
      ),
    ).toEqual([true, false, true, true]);
    expect(store.usage().bytes).toBeLessThanOrEqual(2 ** 20);
    expect((await readAll(pinned)).equals(blobs[0] ?? Buffer.alloc(0))).toBe(true);
    await pinned[Symbol.asyncDispose]();
    const large = blobOf(2 ** 20 + 1);
    await expect(store.openBlob(digestOf(large), new MemorySource(large))).rejects.toMatchObject({
      code: 'STORE_FULL',
    });
  });

  it('belongs to one process', async () => {
    await expect(open()).rejects.toMatchObject({ code: 'STORE_LOCKED' });
  });

  it('deletes a blob, unless it is in use', async () => {
    const blob = blobOf(1000);
    await fetchWhole(blob);
    const handle = await store.openBlob(digestOf(blob), new MemorySource(blob));
    await expect(store.deleteBlob(digestOf(blob))).rejects.toMatchObject({ code: 'OVERLOADED' });
    await handle[Symbol.asyncDispose]();
    expect(await store.deleteBlob(digestOf(blob))).toBe(true);
    expect(await store.deleteBlob(digestOf(blob))).toBe(false);
  });
});
