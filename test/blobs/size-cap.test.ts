import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobStore } from '../../src/blobs/blob-store.ts';
import { digestOf } from '../../src/core/digest.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob, readRange, readWhole } from '../helpers/layers/random-blob.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const CHUNK_BYTES = 64 * 1024;
const MIB = 2 ** 20;

let root: string;
let store: BlobStore;
let nowMs: number;

beforeEach(async () => {
  root = await temporaryFolder();
  nowMs = 4e12;
  store = await open();
});

function open(maxBytes = MIB, background = true): Promise<BlobStore> {
  const fill = { parallel: 3, chunkBytes: CHUNK_BYTES, background };
  return blobStore({ root, maxBytes, fill, now: () => nowMs });
}

/** Disk usage of the store's files; a file with two names counts once. */
async function bytesOnDisk(): Promise<number> {
  const sizes = new Map<number, number>();
  for (const folder of ['blobs', 'partial']) {
    for (const entry of await readdir(join(root, folder), { recursive: true, withFileTypes: true })) {
      if (!entry.isFile() || entry.name.endsWith('.map')) continue;
      const found = await stat(join(entry.parentPath, entry.name)).catch(() => undefined);
      if (found !== undefined) sizes.set(found.ino, found.blocks * 512);
    }
  }
  return [...sizes.values()].reduce((sum, size) => sum + size, 0);
}

describe('the size of the store', () => {
  it.each([1, 2, 3, 4])('never exceeds its limit, fills included (seed %i)', async (seed) => {
    await store[Symbol.asyncDispose]();
    store = await open(MIB, seed % 2 === 0);
    const random = seededRandom(seed);
    const below = (limit: number): number => Math.floor(random() * limit);
    const blobs = Array.from({ length: 12 }, (_, place) =>
      randomBlob(1000 + below(500_000), 100 * seed + place),
    );
    let largest = 0;
    const sources = blobs.map(
      (blob) =>
        new MemorySource(blob, {
          beforePiece: () => {
            largest = Math.max(largest, store.usage().bytes);
          },
        }),
    );
    const client = async (): Promise<void> => {
      for (let turn = 0; turn < 15; turn++) {
        const place = below(blobs.length);
        const [blob = Buffer.alloc(0), source = new MemorySource(blob)] = [blobs[place], sources[place]];
        const start = below(blob.byteLength);
        const range = { start, end: start + below(blob.byteLength - start) };
        await using reader = await store.readBlob(digestOf(blob), source, {
          provenBytes: provenBytes(blob.byteLength),
        });
        const isRight =
          random() < 0.3
            ? (await readWhole(reader)).equals(blob)
            : (await readRange(reader, range)).equals(blob.subarray(range.start, range.end));
        expect(isRight).toBe(true);
        largest = Math.max(largest, store.usage().bytes);
      }
    };
    await Promise.all(Array.from({ length: 4 }, client));
    expect(largest).toBeLessThanOrEqual(MIB);
    expect(largest).toBeGreaterThan(0.5 * MIB);
    // File systems count in blocks.
    expect(await bytesOnDisk()).toBeLessThanOrEqual(MIB + blobs.length * 2 * 4096);
  });

  it('is kept by evicting the least recently used blobs, also across a restart', async () => {
    const blobs = [1, 2, 3].map((seed) => randomBlob(300_000, seed));
    const digests = blobs.map((blob) => digestOf(blob));
    const use = async (place: number): Promise<void> => {
      nowMs += 120_000;
      const blob = blobs[place] ?? Buffer.alloc(0);
      await using handle = await store.openBlob(digestOf(blob), new MemorySource(blob));
      await handle.completed();
    };
    for (const place of [0, 1, 2, 2, 0, 1]) await use(place);
    await use(0);
    await store[Symbol.asyncDispose]();
    store = await open(MIB);
    const more = randomBlob(300_000, 4);
    await using handle = await store.openBlob(digestOf(more), new MemorySource(more));
    await handle.completed();
    expect(digests.map((digest) => store.stat(digest)?.state)).toEqual(['complete', 'complete', undefined]);
  });

  it('follows a lower limit in the configuration', async () => {
    for (const seed of [1, 2, 3]) {
      const blob = randomBlob(300_000, seed);
      await using handle = await store.openBlob(digestOf(blob), new MemorySource(blob));
      await handle.completed();
    }
    await store[Symbol.asyncDispose]();
    store = await open(700_000);
    expect(store.usage()).toEqual({ bytes: 600_000, maxBytes: 700_000, blobs: 2 });
    expect(await bytesOnDisk()).toBeLessThanOrEqual(600_000 + 2 * 4096);
  });
});
