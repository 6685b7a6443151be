import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';

import { beforeEach, describe, expect, it } from 'vitest';

import type { BlobStore } from '../../../src/blobs/blob-store.ts';
import type { ScrubSettings } from '../../../src/blobs/verification/scrubber.ts';
import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { blobStore } from '../../helpers/blob-store.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { MemorySource } from '../../helpers/layers/memory-source.ts';
import { randomBlob } from '../../helpers/layers/random-blob.ts';
import { rot, storedPath } from '../../helpers/faults/stored-files.ts';
import { temporaryFolder } from '../../helpers/temporary-folder.ts';

const BYTES_PER_SECOND = 2 ** 20;
const blobs = [1, 2, 3].map((seed) => randomBlob(300_000 * seed, seed));
const digests = blobs.map((blob) => digestOf(blob));
const [first, second, third] = digests as [Digest, Digest, Digest];

let root: string;
/** The one that was opened last; the scrub begins before opening it ends. */
let opened: BlobStore | undefined;

beforeEach(async () => {
  opened = undefined;
  root = await temporaryFolder();
});

interface OpenOptions {
  readonly scrub?: ScrubSettings;
}

async function openStore({ scrub }: OpenOptions = {}): Promise<BlobStore> {
  const fill = { parallel: 3, chunkBytes: 128 * 1024 };
  const logger = collectingLogger();
  const options = { root, maxBytes: 2 ** 30, fill, events: new Events(collectingLogger()), logger };
  opened = await blobStore({ ...options, ...(scrub === undefined ? {} : { scrub }) });
  return opened;
}

async function fillStore(): Promise<void> {
  await using store = await openStore();
  for (const blob of blobs) await fetchWhole(store, blob);
}

async function fetchWhole(store: BlobStore, blob: Buffer): Promise<void> {
  await using handle = await store.openBlob(digestOf(blob), new MemorySource(blob));
  await handle.completed();
}

/** Time for the scrub that takes none, up to a point where it stands still. */
class Pauses {
  pausedMs = 0;
  /** Settles when it stands still. */
  readonly over = Promise.withResolvers<void>();
  readonly #isLast: (count: number) => boolean | Promise<boolean>;
  #count = 0;

  /** @param isLast asked before each pause, of which the first is number 1 */
  constructor(isLast: (count: number) => boolean | Promise<boolean>) {
    this.#isLast = isLast;
  }

  readonly pause = async (ms: number, signal: AbortSignal): Promise<void> => {
    signal.throwIfAborted();
    if (!(await this.#isLast(++this.#count))) {
      this.pausedMs += ms;
      await new Promise(setImmediate);
      return;
    }
    this.over.resolve();
    await new Promise((_, reject) => {
      signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    });
  };

  get settings(): ScrubSettings {
    return { bytesPerSecond: BYTES_PER_SECOND, pause: this.pause };
  }
}

/** Run one pass over the store, and stop in the pause behind it. */
async function passOver(): Promise<{ store: BlobStore; pausedMs: number }> {
  const isOver = (): boolean => opened?.scrub?.lastPass !== undefined && opened.scrub.running === undefined;
  const pauses = new Pauses(isOver);
  const store = await openStore({ scrub: pauses.settings });
  await pauses.over.promise;
  return { store, pausedMs: pauses.pausedMs };
}

describe('the scrub of the store', () => {
  it('reads all blobs at the configured rate, and reports it', async () => {
    await fillStore();
    const { store, pausedMs } = await passOver();
    const bytes = blobs.reduce((sum, { byteLength }) => sum + byteLength, 0);
    expect(store.scrub).toMatchObject({
      bytesPerSecond: BYTES_PER_SECOND,
      lastPass: { blobs: blobs.length, bytes, condemned: 0 },
    });
    // The pause of the last tick may belong to the next pass.
    expect(pausedMs).toBeGreaterThan((bytes * 1000) / BYTES_PER_SECOND - 100);
    expect(store.usage().blobs).toBe(blobs.length);
  });

  it('condemns only a blob with a wrong byte, wherever it is', async () => {
    await fillStore();
    await rot(storedPath(root, 'blobs', second), 599_999);
    const { store } = await passOver();
    expect(store.scrub?.lastPass).toMatchObject({ blobs: 3, condemned: 1 });
    expect(Array.from(store.list(), ({ digest }) => digest)).toEqual([first, third]);
    const source = new MemorySource(blobs[1] ?? Buffer.alloc(0));
    await using handle = await store.openBlob(second, source);
    await handle.completed();
    expect(source.bytesSent).toBe(600_000);
  });

  it('remembers the last pass of the previous process', async () => {
    await fillStore();
    await (await passOver()).store[Symbol.asyncDispose]();
    const pauses = new Pauses(() => true);
    const store = await openStore({ scrub: pauses.settings });
    await pauses.over.promise;
    expect(store.scrub).toMatchObject({ lastPass: { blobs: 3 }, running: { blobs: 0 } });
  });

  it('is off at a rate of 0', async () => {
    await fillStore();
    await using store = await openStore({ scrub: { bytesPerSecond: 0 } });
    expect(store.scrub).toBeUndefined();
  });

  it('does not change the order of eviction', async () => {
    await fillStore();
    const { store } = await passOver();
    expect(Array.from(store.list(), ({ digest }) => digest)).toEqual(digests);
  });

  it('stops reading a blob that is evicted', async () => {
    await fillStore();
    const pauses = new Pauses(async (count) => {
      if (count === 2) await opened?.deleteBlob(first);
      return opened?.scrub?.lastPass !== undefined;
    });
    const store = await openStore({ scrub: pauses.settings });
    await pauses.over.promise;
    expect(store.scrub?.lastPass).toMatchObject({ blobs: 2, condemned: 0 });
    expect(Array.from(store.list(), ({ digest }) => digest)).toEqual([second, third]);
  });

  it('starts with the most recently used blob after an unclean exit', async () => {
    await fillStore();
    {
      // As a killed process leaves it.
      using database = new DatabaseSync(join(root, 'verified'));
      database.exec("UPDATE state SET value = 'yes' WHERE name = 'running'");
    }
    await rot(storedPath(root, 'blobs', third), 7);
    // The 900,000 bytes of the last one take nine pauses, and so do those of the two others.
    const pauses = new Pauses((count) => count === 12);
    const store = await openStore({ scrub: pauses.settings });
    await pauses.over.promise;
    expect(store.scrub?.running).toMatchObject({ condemned: 1 });
  });

  it('stops with the store, even within a blob', async () => {
    await fillStore();
    const pauses = new Pauses(() => true);
    const store = await openStore({ scrub: pauses.settings });
    await pauses.over.promise;
    await store[Symbol.asyncDispose]();
    const again = await openStore();
    expect(again.usage().blobs).toBe(3);
  });
});
