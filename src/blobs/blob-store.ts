import { mkdir, utimes } from 'node:fs/promises';

import { type Digest, digestAlgorithm } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Tracer } from '../telemetry/tracer.ts';
import type { BlobSource } from '../upstream/blob-source.ts';
import { BlobFills, type FillSettings } from './blob-fills.ts';
import type { BlobHandle, BlobReader } from './blob-handle.ts';
import { DigestWorker } from './digest-worker.ts';
import { OpenBlob } from './open-blob.ts';
import { OpenFiles } from './open-files.ts';
import { PassThrough } from './pass-through.ts';
import { ReadMemory } from './read-memory.ts';
import { ResilientReader } from './resilient-reader.ts';
import { storeFault } from './store-fault.ts';
import { StoreLayout } from './store-layout.ts';
import { StoreLock } from './store-lock.ts';
import { StoreRoom } from './store-room.ts';
import { sweepUnfinished } from './unfinished-files.ts';

export interface BlobStoreOptions {
  readonly root: string;
  /** Most bytes of blobs, those that are arriving included. */
  readonly maxBytes: number;
  readonly fill: FillSettings & {
    /** Whether a blob of which only parts are read is brought as a whole all the same; yes when not given. */
    readonly background?: boolean;
  };
  readonly metrics: Metrics;
  readonly tracer?: Tracer;
  readonly logger: Logger;
  /** Milliseconds of the epoch. */
  readonly now?: () => number;
}

export interface OpenBlobOptions {
  /** The size that the blob's descriptor names; the upstream is asked when it is not given. */
  readonly sizeBytes?: number | undefined;
  /** Ends this caller's waiting, never the fill. */
  readonly signal?: AbortSignal | undefined;
  /** Bring all of the blob, whatever is read and however long; as the store is configured when not given. */
  readonly complete?: boolean | undefined;
  /** Let `source` answer before the blob is open if a fill has to begin anew, also where nothing has to be asked for that. */
  readonly askFirst?: boolean | undefined;
}

export interface BlobStat {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly state: 'complete' | 'partial';
}

/** Errors of `open` that say nothing about the file. */
const NOT_ITS_FAULT: ReadonlySet<string> = new Set(['EMFILE', 'ENFILE', 'ENOMEM', 'EACCES', 'EINTR']);

/**
 * Blobs by digest on disk, bounded in bytes. What is missing is fetched once, whoever asks and however often. A fill that ends
 * before its blob is whole leaves what has arrived; it is gone on with when the blob is next asked for.
 */
export class BlobStore implements AsyncDisposable {
  readonly #options: BlobStoreOptions;
  readonly #now: () => number;
  readonly #layout: StoreLayout;
  readonly #lock: StoreLock;
  readonly #room: StoreRoom;
  readonly #digests = new DigestWorker();
  readonly #memory = new ReadMemory();
  readonly #files = new OpenFiles(this.#memory);
  readonly #fills: BlobFills;

  private constructor(options: BlobStoreOptions, layout: StoreLayout, lock: StoreLock) {
    const { fill: settings, maxBytes, metrics, tracer, logger } = options;
    this.#options = options;
    this.#now = options.now ?? Date.now;
    this.#layout = layout;
    this.#lock = lock;
    const letGo = (): Promise<boolean> => this.#fills.endIdle();
    this.#room = new StoreRoom({ maxBytes, layout, files: this.#files, metrics, now: this.#now, letGo });
    const [digests, memory] = [this.#digests, this.#memory];
    this.#fills = new BlobFills({
      settings,
      layout,
      room: this.#room,
      digests,
      memory,
      metrics,
      tracer,
      logger,
    });
  }

  /** @throws SpandrelError STORE_LOCKED if another process owns the folder; STORE_FAILED */
  static async open(options: BlobStoreOptions): Promise<BlobStore> {
    await mkdir(options.root, { recursive: true });
    const lock = await StoreLock.acquire(options.root);
    try {
      const layout = new StoreLayout(options.root);
      const upgrade = await layout.prepare();
      if (upgrade !== undefined)
        options.logger.info(
          { root: options.root, ...upgrade },
          'the store of an earlier version has been taken over',
        );
      const store = new BlobStore(options, layout, lock);
      const { blobs, leftovers } = layout.scan();
      const swept = await sweepUnfinished(options.root, leftovers);
      if (swept.files > 0)
        options.logger.info(
          { root: options.root, ...swept },
          'what an earlier process left unfinished is gone',
        );
      for (const { digest, sizeBytes, heldBytes, partialPath } of blobs)
        store.#room.budget.set(digest, { sizeBytes, heldBytes, partialPath });
      await store.#room.trim();
      store.#room.updateMetrics();
      return store;
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
  }

  stat(digest: Digest): BlobStat | undefined {
    const blob = this.#room.budget.get(digest);
    if (blob === undefined) return undefined;
    const { sizeBytes, partialPath } = blob;
    return { digest, sizeBytes, state: partialPath === undefined ? 'complete' : 'partial' };
  }

  *list(): Generator<BlobStat> {
    for (const [digest, { sizeBytes, partialPath }] of this.#room.budget.entries())
      yield { digest, sizeBytes, state: partialPath === undefined ? 'complete' : 'partial' };
  }

  /** Whether a file can be written where blobs arrive; tries it. */
  isWritable(): Promise<boolean> {
    return this.#layout.isWritable();
  }

  usage(): { readonly bytes: number; readonly maxBytes: number; readonly blobs: number } {
    const { usedBytes, count } = this.#room.budget;
    return { bytes: usedBytes, maxBytes: this.#options.maxBytes, blobs: count };
  }

  /**
   * Open a blob in a file: from disk, or by joining its fill, or by starting one.
   * @throws SpandrelError BLOB_UNKNOWN, STORE_FULL, STORE_FAILED, BLOB_CORRUPT if it has another size, UPSTREAM_*
   */
  async openBlob(digest: Digest, source: BlobSource, options: OpenBlobOptions = {}): Promise<BlobHandle> {
    const { sizeBytes, signal, complete = this.#options.fill.background ?? true, askFirst = false } = options;
    const request = { digest, source, sizeBytes, mustComplete: complete, askFirst };
    for (;;) {
      const found = (await this.#openComplete(digest)) ?? (await this.#fills.open(request, signal));
      const handle = found && (await this.#withSize(found, sizeBytes));
      if (handle !== undefined) return handle;
    }
  }

  /**
   * Open a blob for reading, if need be without the store: when that cannot take it or fails, bytes come from the upstream as they
   * would without it.
   * @throws SpandrelError BLOB_UNKNOWN, BLOB_CORRUPT if it has another size, UPSTREAM_*
   */
  async readBlob(digest: Digest, source: BlobSource, options: OpenBlobOptions = {}): Promise<BlobReader> {
    const handle = await this.#openIfPossible(digest, source, options);
    const sizeBytes = handle?.sizeBytes ?? options.sizeBytes ?? (await fetchSize(source, options.signal));
    return new ResilientReader({
      digest,
      sizeBytes,
      handle,
      passThrough: new PassThrough({ digest, sizeBytes, source, digests: this.#digests }),
      onStoreFault: async (failed, error) => {
        this.#options.logger.warn({ blob: digest, err: error }, 'the store failed a reader');
        if (failed.source === 'fill') return undefined;
        await this.#room.remove(digest);
        return this.#openIfPossible(digest, source, options);
      },
    });
  }

  /** True if there was such a blob, or a part of it. @throws SpandrelError OVERLOADED while it is being read or filled */
  async deleteBlob(digest: Digest): Promise<boolean> {
    await this.#fills.endIdle(digest);
    if (this.#room.budget.isPinned(digest)) {
      throw new SpandrelError('OVERLOADED', 'the blob is in use; try again when its readers are done');
    }
    if (this.#room.budget.get(digest) === undefined) return false;
    await this.#room.remove(digest, 'evicted');
    return true;
  }

  async #openIfPossible(
    digest: Digest,
    source: BlobSource,
    options: OpenBlobOptions,
  ): Promise<BlobHandle | undefined> {
    try {
      return await this.openBlob(digest, source, options);
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FULL', 'STORE_FAILED')) throw error;
      const { code, message } = error;
      this.#options.logger.warn({ blob: digest, code, cause: message }, 'a blob is passed through');
      return undefined;
    }
  }

  async #openComplete(digest: Digest): Promise<BlobHandle | undefined> {
    const { budget } = this.#room;
    const blob = budget.get(digest);
    if (blob === undefined || blob.partialPath !== undefined) return undefined;
    const unpin = budget.pin(digest);
    const { sizeBytes } = blob;
    const path = this.#layout.blobPath(digest);
    try {
      const file = await this.#files.open(path);
      await this.#touch(digest, path);
      return OpenBlob.complete({ digest, sizeBytes, path, file, onClose: unpin });
    } catch (error) {
      unpin();
      if (NOT_ITS_FAULT.has(nodeErrorCode(error))) throw storeFault(error, 'open a blob');
      this.#options.logger.warn(
        { blob: digest, err: error },
        'a blob of the store cannot be opened, it will be fetched again',
      );
      await this.#room.remove(digest);
      return undefined;
    }
  }

  /** The order of use survives a restart in the times of the files. */
  async #touch(digest: Digest, path: string): Promise<void> {
    const now = new Date(this.#now());
    if (!this.#room.budget.noteUse(digest, now.getTime())) return;
    // A blob that can be read is served, whatever becomes of its time.
    await utimes(path, now, now).catch(() => undefined);
  }

  /** A blob of a known digest has one size. If the file has another, it is the file that is wrong, or the caller. */
  async #withSize(handle: BlobHandle, sizeBytes: number | undefined): Promise<BlobHandle | undefined> {
    if (sizeBytes === undefined || handle.sizeBytes === sizeBytes) return handle;
    const { digest, path, growth, source } = handle;
    await using _ = handle;
    const isDamaged =
      source === 'disk' && (await this.#digests.hash(path, growth, digestAlgorithm(digest))) !== digest;
    if (!isDamaged)
      throw new SpandrelError(
        'BLOB_CORRUPT',
        `the blob should have ${sizeBytes} bytes, but it has ${handle.sizeBytes}`,
      );
    this.#options.logger.warn({ blob: digest }, 'a blob of the store is damaged, it will be fetched again');
    await this.#room.remove(digest);
    return undefined;
  }

  /** Ends the fills; their readers get SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#fills[Symbol.asyncDispose]();
    await this.#digests[Symbol.asyncDispose]();
    await this.#files[Symbol.asyncDispose]();
    await this.#lock[Symbol.asyncDispose]();
  }
}

/** Size of a blob of which nothing is known. */
async function fetchSize(source: BlobSource, signal: AbortSignal | undefined): Promise<number> {
  const leaving = new AbortController();
  const wanted = signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]);
  try {
    return (await source.fetch({ start: 0, end: 1 }, wanted)).totalBytes;
  } finally {
    leaving.abort();
  }
}
