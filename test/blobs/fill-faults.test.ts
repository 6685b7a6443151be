import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobHandle } from '../../src/blobs/reads/blob-handle.ts';
import type { BlobStore } from '../../src/blobs/blob-store.ts';
import type { ByteRange } from '../../src/core/byte-range.ts';
import { digestOf } from '../../src/core/digest.ts';
import { SpandrelError } from '../../src/core/errors.ts';
import { provenBytes } from '../../src/core/proven-bytes.ts';
import type { BlobSource } from '../../src/core/sources/blob-source.ts';
import { blobStore } from '../helpers/blob-store.ts';
import { MemorySource } from '../helpers/layers/memory-source.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const CHUNK_BYTES = 64 * 1024;
const MAX_BYTES = 2 ** 20;

let root: string;
let store: BlobStore;

beforeEach(async () => {
  root = await temporaryFolder();
  const fill = { parallel: 3, chunkBytes: CHUNK_BYTES };
  store = await blobStore({ root, maxBytes: MAX_BYTES, fill });
});

function blobOf(chunks: number, seed: number): Buffer {
  const random = seededRandom(seed);
  return Buffer.from(Array.from({ length: chunks * CHUNK_BYTES }, () => Math.floor(random() * 256)));
}

async function readAll(
  handle: BlobHandle,
  range: ByteRange = { start: 0, end: handle.sizeBytes },
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of handle.read(range)) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('a fill', () => {
  it('fetches what a reader waits for while every other request hangs', async () => {
    const blob = blobOf(12, 1);
    const rest = Promise.withResolvers<void>();
    const wanted = { start: 8 * CHUNK_BYTES + 5, end: 8 * CHUNK_BYTES + 105 };
    const isWanted = (position: number): boolean => position >= 8 * CHUNK_BYTES && position < 9 * CHUNK_BYTES;
    const source = new MemorySource(blob, {
      beforePiece: (position) => (isWanted(position) ? undefined : rest.promise),
    });
    await using handle = await store.openBlob(digestOf(blob), source, {
      provenBytes: provenBytes(blob.byteLength),
    });
    expect((await readAll(handle, wanted)).equals(blob.subarray(wanted.start, wanted.end))).toBe(true);
    rest.resolve();
    await handle.completed();
    expect(source.bytesSent).toBe(blob.byteLength);
  });

  it('never overwrites arrived bytes, whatever a later response has', async () => {
    const blob = blobOf(8, 2);
    const other = Buffer.from(blob);
    other[10] = (other[10] ?? 0) ^ 1;
    const ranges = new MemorySource(blob);
    const whole = new MemorySource(other, { ranges: false });
    const othersDone = Promise.withResolvers<void>();
    let open = 7;
    // All ranges but the last are honest; the last brings the whole of another blob.
    const source: BlobSource = {
      async fetch(range, signal) {
        if (range?.start === 7 * CHUNK_BYTES) {
          await othersDone.promise;
          return whole.fetch(range, signal);
        }
        const answer = await ranges.fetch(range, signal);
        const body = (async function* () {
          yield* answer.body;
          if (--open === 0) othersDone.resolve();
        })();
        return { ...answer, body };
      },
    };
    await using handle = await store.openBlob(digestOf(blob), source, {
      provenBytes: provenBytes(blob.byteLength),
    });
    await handle.completed();
    await using stored = await store.openBlob(digestOf(blob), source);
    expect(stored.source).toBe('disk');
    expect((await readAll(stored)).equals(blob)).toBe(true);
  });

  it('resumes a broken body if the upstream ignores ranges', async () => {
    const blob = blobOf(6, 3);
    let breaks = 2;
    const source = new MemorySource(blob, {
      ranges: false,
      beforePiece: (position) => {
        if (position === (6 - breaks) * CHUNK_BYTES - 16 * 1024 && breaks-- > 0)
          throw new SpandrelError('UPSTREAM_UNREACHABLE', 'reset');
      },
    });
    await using handle = await store.openBlob(digestOf(blob), source);
    expect((await readAll(handle)).equals(blob)).toBe(true);
    expect(source.requests).toHaveLength(3);
  });

  it('uses the source of another reader if the first does not have the blob', async () => {
    const blob = blobOf(3, 4);
    const asked = Promise.withResolvers<void>();
    const without: BlobSource = {
      async fetch() {
        await asked.promise;
        throw new SpandrelError('BLOB_UNKNOWN', 'not in this repository');
      },
    };
    const both = [without, new MemorySource(blob)].map((source) => store.openBlob(digestOf(blob), source));
    asked.resolve();
    for (const handle of await Promise.all(both)) {
      expect((await readAll(handle)).equals(blob)).toBe(true);
      await handle[Symbol.asyncDispose]();
    }
  });
});

describe('a full store', () => {
  it('does not reserve the same room for two fills', async () => {
    const gate = Promise.withResolvers<void>();
    const opened = await Promise.allSettled(
      [5, 6].map((seed) => {
        const blob = blobOf(10, seed);
        const source = new MemorySource(blob, { beforePiece: () => gate.promise });
        return store.openBlob(digestOf(blob), source, { provenBytes: provenBytes(blob.byteLength) });
      }),
    );
    expect(opened.map(({ status }) => status).toSorted()).toEqual(['fulfilled', 'rejected']);
    expect(store.usage().bytes).toBeLessThanOrEqual(MAX_BYTES);
    gate.resolve();
    for (const result of opened) if (result.status === 'fulfilled') await result.value[Symbol.asyncDispose]();
  });

  it('closes the response that showed that', async () => {
    const blob = blobOf(17, 7);
    const memory = new MemorySource(blob);
    const signals: AbortSignal[] = [];
    const source: BlobSource = {
      fetch(range, signal) {
        signals.push(signal);
        return memory.fetch(range, signal);
      },
    };
    await expect(store.openBlob(digestOf(blob), source)).rejects.toMatchObject({ code: 'STORE_FULL' });
    expect(signals.map(({ aborted }) => aborted)).toEqual([true]);
    expect(store.usage().bytes).toBe(0);
  });
});
