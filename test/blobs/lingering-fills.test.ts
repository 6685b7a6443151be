import { readdir } from 'node:fs/promises';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';

import type { BlobStore } from '../../src/blobs/blob-store.ts';
import { digestOf } from '../../src/core/digest.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import { Events } from '../../src/telemetry/events.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { randomBlob, readRange } from '../helpers/layers/random-blob.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const KIB = 1024;
const CHUNK_BYTES = 512 * KIB;
/** Longer than a fill waits for its next reader. */
const LONG_MS = 60_000;

const blobs = [1, 2, 3, 4].map((seed) => randomBlob(3 * CHUNK_BYTES, seed));

let root: string;
let events: Events;
let store: BlobStore;

beforeEach(async () => {
  // Nothing ends because time passes.
  vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] });
  root = await temporaryFolder();
  events = new Events(collectingLogger());
  store = await blobStore({
    root,
    maxBytes: 4 * CHUNK_BYTES,
    fill: { parallel: 2, chunkBytes: CHUNK_BYTES, background: false, blobs: 3 },
    events,
  });
});

afterEach(async () => {
  vi.useRealTimers();
});

async function readPart(blob: Buffer, start: number, bytes = 10): Promise<MemorySource> {
  const source = new MemorySource(blob);
  const { byteLength: sizeBytes } = blob;
  await using handle = await store.openBlob(digestOf(blob), source, { provenBytes: provenBytes(sizeBytes) });
  const range = { start, end: start + bytes };
  expect((await readRange(handle, range)).equals(blob.subarray(range.start, range.end))).toBe(true);
  return source;
}

async function fillsEnded(): Promise<number> {
  const { text } = await events.printMetrics();
  const counts = Array.from(text.matchAll(/^spandrel_fills_total\{.*\} (\d+)$/gm), ([, count]) =>
    Number(count),
  );
  return counts.reduce((sum, count) => sum + count, 0);
}

describe('a fill whose last reader has left', () => {
  const [blob = Buffer.alloc(0), other = blob, third = blob] = blobs;

  it('is resumed by the next one, and ends without one', async () => {
    for (const start of [0, 700 * KIB, 1400 * KIB]) await readPart(blob, start);
    expect(await fillsEnded()).toBe(0);
    vi.advanceTimersByTime(LONG_MS);
    await expect.poll(fillsEnded).toBe(1);
    // Its bytes are kept for the next fill.
    expect((await readPart(blob, 700 * KIB)).requests).toEqual([]);
  });

  it('gives its place to a waiting blob', async () => {
    for (const bytes of blobs) await readPart(bytes, 0);
    expect(await fillsEnded()).toBe(1);
    expect((await readPart(blob, 5)).requests).toEqual([]);
  });

  it('gives its room to a blob that needs it', async () => {
    await readPart(blob, 0, 2 * CHUNK_BYTES);
    await readPart(other, 0, 2 * CHUNK_BYTES);
    await readPart(third, 0, 2 * CHUNK_BYTES);
    expect(store.usage().bytes).toBeLessThanOrEqual(4 * CHUNK_BYTES);
    expect(store.stat(digestOf(third))).toMatchObject({ state: 'partial' });
    expect(store.stat(digestOf(blob))).toBeUndefined();
  });

  it('does not prevent the deletion of its blob', async () => {
    await readPart(blob, 0);
    expect(await store.deleteBlob(digestOf(blob))).toBe(true);
    expect(await readdir(join(root, 'partial'))).toEqual([]);
  });

  it('releases room for bytes that readers no longer want', async () => {
    let gate = Promise.withResolvers<void>();
    let passedBytes = 0;
    // What earlier readers have been let to pass may come late, and the next reader waits for it.
    const source = new MemorySource(blob, {
      beforePiece: (position) =>
        position < passedBytes || position % (64 * KIB) === 0 ? undefined : gate.promise,
    });
    const digest = digestOf(blob);
    for (let start = 0; start < blob.byteLength; start += 64 * KIB) {
      passedBytes = start;
      gate = Promise.withResolvers<void>();
      const handle = await store.openBlob(digest, source, { provenBytes: provenBytes(blob.byteLength) });
      for await (const bytes of handle.read({ start, end: blob.byteLength })) {
        expect(bytes.equals(blob.subarray(start, start + bytes.byteLength))).toBe(true);
        break;
      }
      await handle[Symbol.asyncDispose]();
      gate.resolve();
      // The rest of two responses may still arrive.
      const mostBytes = source.bytesSent + 2 * 256 * KIB;
      await expect.poll(() => store.usage().bytes).toBeLessThanOrEqual(mostBytes);
    }
    expect(await fillsEnded()).toBe(0);
  });
});
