import { truncate } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobReader } from '../../src/blobs/reads/blob-handle.ts';
import type { BlobStore } from '../../src/blobs/blob-store.ts';
import { digestHex, digestOf } from '../../src/core/digest.ts';
import { SpandrelError } from '../../src/core/errors.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { Events } from '../../src/telemetry/events.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob, readRange, readWhole } from '../helpers/layers/random-blob.ts';
import { ReadOnlyFolder } from '../helpers/faults/read-only-folder.ts';
import { SmallDisk } from '../helpers/faults/small-disk.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const CHUNK_BYTES = 64 * 1024;
const MIB = 2 ** 20;

let events: Events;
let nowMs = 0;

beforeEach(() => {
  events = new Events(collectingLogger());
  nowMs = 1e12;
});

async function openStore(root: string, maxBytes: number): Promise<BlobStore> {
  const fill = { parallel: 3, chunkBytes: CHUNK_BYTES };
  const now = (): number => nowMs;
  return await blobStore({ root, maxBytes, fill, events, now });
}

/** A store that may hold 100 MiB on a disk that cannot hold 3. */
async function storeOnSmallDisk(): Promise<BlobStore> {
  const disk = cleanup.use(await SmallDisk.create(3 * MIB));
  return openStore(disk.path, 100 * MIB);
}

async function storeOfOneMib(): Promise<BlobStore> {
  const root = await temporaryFolder();
  return openStore(root, MIB);
}

/** How a read ends, and what it yields before. */
async function readToItsEnd(reader: BlobReader): Promise<{ bytes: number; code: string }> {
  let bytes = 0;
  try {
    for await (const chunk of reader.read({ start: 0, end: reader.sizeBytes })) bytes += chunk.byteLength;
    return { bytes, code: 'none' };
  } catch (error) {
    return { bytes, code: error instanceof SpandrelError ? error.code : String(error) };
  }
}

describe('a full disk', () => {
  it('does not stop reads: blobs without room come from the upstream, verified', async () => {
    const store = await storeOnSmallDisk();
    const blob = randomBlob(6 * MIB, 1);
    const source = new MemorySource(blob);
    const readers = Array.from({ length: 3 }, async () => {
      await using reader = await store.readBlob(digestOf(blob), source, {
        provenBytes: provenBytes(blob.byteLength),
      });
      return (await readWhole(reader)).equals(blob);
    });
    expect(await Promise.all(readers)).toEqual([true, true, true]);
    expect(store.stat(digestOf(blob))?.state).not.toBe('complete');
    // While the disk is left alone, blobs are passed through at once.
    const next = randomBlob(MIB, 2);
    const nextSource = new MemorySource(next);
    await using reader = await store.readBlob(digestOf(next), nextSource);
    expect(reader.source).toBe('upstream');
    expect((await readWhole(reader)).equals(next)).toBe(true);
    expect(nextSource.bytesSent).toBeLessThanOrEqual(next.byteLength + 1);
    await expect(store.openBlob(digestOf(next), nextSource)).rejects.toMatchObject({ code: 'STORE_FULL' });
  });

  it('has room again, because the least recently used blobs were evicted', async () => {
    const store = await storeOnSmallDisk();
    const blobs = [1, 2, 3, 4].map((seed) => randomBlob(MIB - 8 * 1024, seed));
    for (const blob of blobs) {
      await using reader = await store.readBlob(digestOf(blob), new MemorySource(blob), {
        provenBytes: provenBytes(blob.byteLength),
      });
      expect((await readWhole(reader)).equals(blob)).toBe(true);
      nowMs += 60_000;
    }
    const last = blobs.at(-1) ?? Buffer.alloc(0);
    await using handle = await store.openBlob(digestOf(last), new MemorySource(last));
    await handle.completed();
    expect(store.stat(digestOf(last))).toMatchObject({ state: 'complete' });
  });

  it('that takes no file at all leaves no bytes in the metrics of the store', async () => {
    const root = await temporaryFolder();
    const store = await openStore(root, 100 * MIB);
    const blob = randomBlob(MIB, 4);
    {
      await using _readOnly = await ReadOnlyFolder.create(root);
      await using reader = await store.readBlob(digestOf(blob), new MemorySource(blob));
      expect((await readWhole(reader)).equals(blob)).toBe(true);
    }
    expect([...store.list()]).toEqual([]);
    expect((await events.printMetrics()).text).toMatch(/^spandrel_store_bytes\{state="partial"\} 0$/m);
  });

  it('does not hide that the upstream sends another blob', async () => {
    const store = await storeOnSmallDisk();
    const blob = randomBlob(6 * MIB, 1);
    const wrong = Buffer.from(blob);
    wrong[wrong.byteLength - 1] = (wrong.at(-1) ?? 0) ^ 1;
    await using reader = await store.readBlob(digestOf(blob), new MemorySource(wrong), {
      provenBytes: provenBytes(blob.byteLength),
    });
    const { bytes, code } = await readToItsEnd(reader);
    expect(code).toBe('BLOB_CORRUPT');
    expect(bytes).toBeLessThanOrEqual(blob.byteLength - CHUNK_BYTES);
  });
});

describe('a blob that is larger than the store', () => {
  it('is passed through, whole or in ranges, each requested byte once', async () => {
    const store = await storeOfOneMib();
    const blob = randomBlob(MIB + 1, 3);
    const source = new MemorySource(blob);
    await using reader = await store.readBlob(digestOf(blob), source, {
      provenBytes: provenBytes(blob.byteLength),
    });
    expect(reader.source).toBe('upstream');
    const before = source.bytesSent;
    expect((await readWhole(reader)).equals(blob)).toBe(true);
    expect(source.bytesSent - before).toBe(blob.byteLength);
    const range = { start: 500_001, end: 600_000 };
    expect((await readRange(reader, range)).equals(blob.subarray(range.start, range.end))).toBe(true);
    expect(store.usage().bytes).toBe(0);
    await expect(store.openBlob(digestOf(blob), source)).rejects.toMatchObject({ code: 'STORE_FULL' });
  });

  it('is passed through even if transfers break and ranges are ignored', async () => {
    const store = await storeOfOneMib();
    const blob = randomBlob(MIB + 1, 4);
    let breaks = 2;
    const source = new MemorySource(blob, {
      ranges: false,
      beforePiece: (position) => {
        if (position === 512 * 1024 && breaks-- > 0) throw new SpandrelError('UPSTREAM_UNREACHABLE', 'reset');
      },
    });
    await using reader = await store.readBlob(digestOf(blob), source);
    expect((await readWhole(reader)).equals(blob)).toBe(true);
  });

  it('is refused if the upstream has another size', async () => {
    const store = await storeOfOneMib();
    const blob = randomBlob(2 * MIB, 5);
    await using reader = await store.readBlob(digestOf(blob), new MemorySource(blob), {
      provenBytes: provenBytes(blob.byteLength - 1),
    });
    expect(await readToItsEnd(reader)).toMatchObject({ code: 'BLOB_CORRUPT', bytes: 0 });
  });
});

describe('a stored blob that cannot be read', () => {
  it('is fetched again during a read, which does not notice', async () => {
    const root = await temporaryFolder();
    const store = await openStore(root, 10 * MIB);
    const blob = randomBlob(2 * MIB, 6);
    const source = new MemorySource(blob);
    {
      await using handle = await store.openBlob(digestOf(blob), source);
      await handle.completed();
    }
    await using reader = await store.readBlob(digestOf(blob), source);
    expect(reader.source).toBe('disk');
    const hex = digestHex(digestOf(blob));
    await truncate(join(root, 'blobs', 'sha256', hex.slice(0, 2), hex), MIB);
    expect((await readWhole(reader)).equals(blob)).toBe(true);
    await using again = await store.openBlob(digestOf(blob), source);
    await again.completed();
    expect(source.bytesSent).toBe(2 * blob.byteLength);
    expect(store.stat(digestOf(blob))).toMatchObject({ state: 'complete' });
  });

  it('is distinguished from a caller with a wrong size', async () => {
    const root = await temporaryFolder();
    const store = await openStore(root, 10 * MIB);
    const blob = randomBlob(MIB, 7);
    const source = new MemorySource(blob);
    const sizeBytes = blob.byteLength;
    {
      await using handle = await store.openBlob(digestOf(blob), source);
      await handle.completed();
    }
    await expect(
      store.openBlob(digestOf(blob), source, { provenBytes: provenBytes(5) }),
    ).rejects.toMatchObject({
      code: 'BLOB_CORRUPT',
    });
    expect(store.stat(digestOf(blob))).toMatchObject({ state: 'complete', sizeBytes });
    const hex = digestHex(digestOf(blob));
    await store[Symbol.asyncDispose]();
    await truncate(join(root, 'blobs', 'sha256', hex.slice(0, 2), hex), 100);
    const again = await openStore(root, 10 * MIB);
    await using reader = await again.readBlob(digestOf(blob), source, {
      provenBytes: provenBytes(sizeBytes),
    });
    expect((await readWhole(reader)).equals(blob)).toBe(true);
  });
});
