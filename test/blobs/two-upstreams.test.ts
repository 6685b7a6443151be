import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { beforeEach, expect, it, vi } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import type { BlobSource } from '../../src/core/sources/blob-source.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob, readWhole } from '../helpers/layers/random-blob.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const BLOBS = 60;

let root: string;

beforeEach(async () => {
  root = await temporaryFolder();
});

function sourceOf(upstream: string, bytes: Buffer): BlobSource {
  const source = new MemorySource(bytes);
  return {
    upstream,
    repositoryKey: `${upstream}/app`,
    fetch: (range, signal) => source.fetch(range, signal),
  };
}

it('a blob that two upstreams send at the same time is stored once, and neither fill fails', async () => {
  const delivered = new Set<string>();
  await using store = await blobStore({
    root,
    maxBytes: 2 ** 26,
    fill: { parallel: 2, chunkBytes: 64 * 1024 },
  });
  store.onDelivered((digest, upstream) => delivered.add(`${upstream} ${digest}`));
  const blobs = Array.from({ length: BLOBS }, (_, seed) => randomBlob(50_000 + seed, seed));
  const read = async (bytes: Buffer, upstream: string): Promise<void> => {
    const digest = digestOf(bytes);
    await using handle = await store.openBlob(digest, sourceOf(upstream, bytes), { complete: true });
    expect((await readWhole(handle)).equals(bytes)).toBe(true);
    await handle.completed();
  };
  const upstreams = ['one', 'two', 'three'];
  await Promise.all(blobs.flatMap((bytes) => upstreams.map((upstream) => read(bytes, upstream))));
  for (const bytes of blobs)
    expect(store.stat(digestOf(bytes))).toMatchObject({ state: 'complete', sizeBytes: bytes.length });
  expect(store.usage().blobs).toBe(BLOBS);
  expect(delivered.size).toBeGreaterThanOrEqual(BLOBS);
  expect((await store.state()).isWritable).toBe(true);
  await vi.waitFor(async () => expect(await readdir(join(root, 'partial'))).toEqual([]));
});
