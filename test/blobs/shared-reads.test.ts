import { beforeEach, expect, it } from 'vitest';

import type { BlobHandle } from '../../src/blobs/reads/blob-handle.ts';
import type { BlobStore } from '../../src/blobs/blob-store.ts';
import type { ByteRange } from '../../src/core/byte-range.ts';
import { digestOf } from '../../src/core/digest.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const SEED = 20261121;
const blob = randomBlob(3_300_001, SEED);
const digest = digestOf(blob);

let root: string;
let store: BlobStore;

beforeEach(async () => {
  root = await temporaryFolder();
  const fill = { parallel: 3, chunkBytes: 512 * 1024 };
  store = await blobStore({ root, maxBytes: 100 * 2 ** 20, fill });
});

/** Compares each buffer when it is yielded, and again just before it is released. */
async function compare(handle: BlobHandle, range: ByteRange, turns: () => number): Promise<void> {
  let position = range.start;
  for await (const bytes of handle.readShared(range)) {
    const expected = blob.subarray(position, position + bytes.byteLength);
    expect(bytes.equals(expected), `seed ${SEED}, from ${position}`).toBe(true);
    for (let turn = turns(); turn > 0; turn--) await new Promise(setImmediate);
    expect(bytes.equals(expected), `seed ${SEED}, from ${position}, later`).toBe(true);
    position += bytes.byteLength;
  }
  expect(position).toBe(range.end);
}

it.each(['while it arrives', 'when it is complete'])(
  'readShared yields any range of a blob %s, and reuses no buffer that a reader still has',
  async (when) => {
    const random = seededRandom(SEED);
    const below = (end: number): number => Math.floor(random() * end);
    const source = new MemorySource(blob);
    await using first = await store.openBlob(digest, source, { complete: true });
    if (when === 'when it is complete') await first.completed();
    const ranges = [
      { start: 0, end: blob.byteLength },
      { start: 0, end: 0 },
      { start: blob.byteLength, end: blob.byteLength },
      { start: blob.byteLength - 1, end: blob.byteLength },
      ...Array.from({ length: 60 }, () => {
        const start = below(blob.byteLength);
        return { start, end: start + below(blob.byteLength - start + 1) };
      }),
    ];
    await Promise.all(
      ranges.map(async (range) => {
        await using handle = await store.openBlob(digest, source);
        expect(handle.source).toBe(when === 'when it is complete' ? 'disk' : 'fill');
        await compare(handle, range, () => below(4));
      }),
    );
    expect(source.bytesSent).toBe(blob.byteLength);
  },
);

it('readShared yields bytes of earlier readers to later ones', async () => {
  const source = new MemorySource(blob);
  await using handle = await store.openBlob(digest, source, { complete: true });
  await handle.completed();
  for (let round = 0; round < 20; round++) {
    for await (const bytes of handle.readShared({ start: round, end: blob.byteLength })) {
      expect(bytes.equals(blob.subarray(round, round + bytes.byteLength))).toBe(true);
      break;
    }
  }
  await compare(handle, { start: 0, end: blob.byteLength }, () => 1);
});
