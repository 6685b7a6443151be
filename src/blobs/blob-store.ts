import { link, mkdir, open, rm, utimes } from 'node:fs/promises';
import { randomUUID } from 'node:crypto';
import { dirname } from 'node:path';

import { SingleFlight } from '../cache/single-flight.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { BlobSource } from '../upstream/blob-source.ts';
import { AlternativeSources } from './alternative-sources.ts';
import type { BlobHandle } from './blob-handle.ts';
import { DigestWorker } from './digest-worker.ts';
import { Fill } from './fill.ts';
import { OpenBlob } from './open-blob.ts';
import { PartialFile } from './partial-file.ts';
import { StoreBudget } from './store-budget.ts';
import { storeFault } from './store-fault.ts';
import { StoreLayout, syncFolderOf } from './store-layout.ts';
import { StoreLock } from './store-lock.ts';

export interface BlobStoreOptions {
  readonly root: string;
  /** Most bytes of blobs, those that are arriving included. */
  readonly maxBytes: number;
  readonly fill: { readonly parallel: number; readonly chunkBytes: number };
  readonly metrics: Metrics;
  readonly logger: Logger;
}

export interface BlobStat {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly state: 'complete' | 'partial';
}

interface RunningFill {
  readonly fill: Fill;
  readonly file: PartialFile;
  readonly sizeBytes: number;
  /** Settles when the blob is in its place, or has been given up. */
  readonly done: Promise<void>;
  handles: number;
}

/** Blobs by digest on disk, bounded in bytes. What is missing is fetched once, whoever asks and however often. */
export class BlobStore implements AsyncDisposable {
  readonly #options: BlobStoreOptions;
  readonly #layout: StoreLayout;
  readonly #lock: StoreLock;
  readonly #budget: StoreBudget;
  readonly #digests = new DigestWorker();
  readonly #fills = new Map<Digest, RunningFill>();
  readonly #starts: SingleFlight<RunningFill>;
  /** Sources of the fills that are being started. */
  readonly #starting = new Map<Digest, AlternativeSources>();
  readonly #stopping = new AbortController();

  private constructor(options: BlobStoreOptions, layout: StoreLayout, lock: StoreLock) {
    this.#options = options;
    this.#layout = layout;
    this.#lock = lock;
    this.#budget = new StoreBudget(options.maxBytes);
    this.#starts = new SingleFlight('blob', options.metrics);
  }

  /** @throws SpandrelError STORE_LOCKED if another process owns the folder; STORE_FAILED */
  static async open(options: BlobStoreOptions): Promise<BlobStore> {
    await mkdir(options.root, { recursive: true });
    const lock = await StoreLock.acquire(options.root);
    try {
      const layout = new StoreLayout(options.root);
      await layout.prepare();
      const store = new BlobStore(options, layout, lock);
      for (const { digest, sizeBytes } of await layout.scan()) store.#budget.add(digest, sizeBytes);
      await store.#reserve(0);
      store.#updateMetrics();
      return store;
    } catch (error) {
      await lock[Symbol.asyncDispose]();
      throw error;
    }
  }

  stat(digest: Digest): BlobStat | undefined {
    const sizeBytes = this.#budget.sizeOf(digest);
    if (sizeBytes !== undefined) return { digest, sizeBytes, state: 'complete' };
    const running = this.#fills.get(digest);
    return running && { digest, sizeBytes: running.sizeBytes, state: 'partial' };
  }

  *list(): Generator<BlobStat> {
    for (const [digest, sizeBytes] of this.#budget.entries()) yield { digest, sizeBytes, state: 'complete' };
    for (const [digest, { sizeBytes }] of this.#fills) yield { digest, sizeBytes, state: 'partial' };
  }

  usage(): { readonly bytes: number; readonly maxBytes: number; readonly blobs: number } {
    return { bytes: this.#budget.usedBytes, maxBytes: this.#options.maxBytes, blobs: this.#budget.count };
  }

  /**
   * Open a blob: from disk, or by joining its fill, or by starting one.
   * @param options.sizeBytes the size that the blob's descriptor names; the upstream is asked when it is not given
   * @param options.signal ends this caller's waiting, never the fill
   * @throws SpandrelError BLOB_UNKNOWN, STORE_FULL, STORE_FAILED, UPSTREAM_*
   */
  async openBlob(
    digest: Digest,
    source: BlobSource,
    options: { readonly sizeBytes?: number; readonly signal?: AbortSignal } = {},
  ): Promise<BlobHandle> {
    const complete = await this.#openComplete(digest);
    if (complete !== undefined) return complete;
    const known = this.#fills.get(digest);
    if (known !== undefined) {
      this.#options.metrics.singleFlightJoined.inc({ what: 'blob' });
      known.fill.addSource(source);
      return this.#handleOf(digest, known);
    }
    this.#starting.get(digest)?.add(source);
    const started = await this.#starts.run(
      digest,
      () => this.#startWith(digest, new AlternativeSources(source), options.sizeBytes),
      options.signal,
    );
    // A small fill may be over by now.
    return (await this.#openComplete(digest)) ?? this.#handleOf(digest, started);
  }

  /** True if there was such a blob. @throws SpandrelError OVERLOADED while it is being read or filled */
  async deleteBlob(digest: Digest): Promise<boolean> {
    if (this.#fills.has(digest) || this.#budget.isPinned(digest)) {
      throw new SpandrelError('OVERLOADED', 'the blob is in use; try again when its readers are done');
    }
    if (this.#budget.sizeOf(digest) === undefined) return false;
    await this.#evict(digest);
    return true;
  }

  async #openComplete(digest: Digest): Promise<BlobHandle | undefined> {
    const sizeBytes = this.#budget.sizeOf(digest);
    if (sizeBytes === undefined) return undefined;
    this.#budget.pin(digest);
    const path = this.#layout.blobPath(digest);
    try {
      const file = await open(path, 'r');
      // The order of use survives a restart in the times of the files.
      await utimes(path, new Date(), new Date());
      return OpenBlob.complete({ digest, sizeBytes, path, file, onClose: () => this.#budget.unpin(digest) });
    } catch (error) {
      this.#budget.unpin(digest);
      this.#budget.remove(digest);
      this.#options.logger.warn(
        { blob: digest, err: error },
        'a blob of the store cannot be opened, it will be fetched again',
      );
      return undefined;
    }
  }

  #handleOf(digest: Digest, running: RunningFill): BlobHandle {
    running.handles++;
    return OpenBlob.filling({
      digest,
      sizeBytes: running.sizeBytes,
      file: running.file,
      fill: running.fill,
      done: running.done,
      onClose: () => {
        running.handles--;
        return this.#discardIfOver(digest, running);
      },
    });
  }

  async #startWith(
    digest: Digest,
    sources: AlternativeSources,
    knownSize: number | undefined,
  ): Promise<RunningFill> {
    this.#starting.set(digest, sources);
    // What the fill has asked for must not outlive it: an answer that nobody reads keeps its connection.
    const over = new AbortController();
    try {
      return await this.#startFill(digest, sources, knownSize, over);
    } catch (error) {
      over.abort(error);
      throw error;
    } finally {
      this.#starting.delete(digest);
    }
  }

  async #startFill(
    digest: Digest,
    sources: AlternativeSources,
    knownSize: number | undefined,
    over: AbortController,
  ): Promise<RunningFill> {
    this.#stopping.signal.throwIfAborted();
    const { parallel, chunkBytes } = this.#options.fill;
    const signal = AbortSignal.any([this.#stopping.signal, over.signal]);
    // A small blob of known size needs no ranges; for the others the first answer tells whether there are any.
    const first =
      knownSize !== undefined && knownSize <= chunkBytes
        ? undefined
        : await sources.fetch({ start: 0, end: chunkBytes }, signal);
    const sizeBytes = knownSize ?? first?.totalBytes ?? 0;
    await this.#reserve(sizeBytes);
    let file: PartialFile;
    try {
      file = await PartialFile.create(this.#layout.partialPath(randomUUID()));
    } catch (error) {
      this.#budget.release(sizeBytes);
      throw error;
    }
    const digests = this.#digests;
    const fill = new Fill({ digest, sources, file, sizeBytes, first, parallel, chunkBytes, digests, signal });
    const { promise: done, resolve, reject } = Promise.withResolvers<void>();
    done.catch(() => undefined);
    const running: RunningFill = { fill, file, sizeBytes, done, handles: 0 };
    this.#fills.set(digest, running);
    this.#updateMetrics();
    void this.#finishFill(digest, running, over).then(resolve, reject);
    return running;
  }

  async #finishFill(digest: Digest, running: RunningFill, over: AbortController): Promise<void> {
    const { fill, file, sizeBytes } = running;
    try {
      await fill.run();
      await this.#promote(digest, file, sizeBytes);
      fill.complete();
    } catch (error) {
      this.#budget.release(sizeBytes);
      const failure =
        isSpandrelError(error) || this.#stopping.signal.aborted
          ? (error as Error)
          : storeFault(error, 'keep a blob');
      fill.fail(failure);
      over.abort(failure);
      const code = isSpandrelError(failure) ? failure.code : 'INTERNAL';
      this.#options.logger.warn({ blob: digest, code, cause: failure.message }, 'fill failed');
      throw failure;
    } finally {
      this.#fills.delete(digest);
      this.#updateMetrics();
      await this.#discardIfOver(digest, running);
    }
  }

  /** Give the file a second name among the complete blobs. The first goes when nobody reads through it any more. */
  async #promote(digest: Digest, file: PartialFile, sizeBytes: number): Promise<void> {
    const path = this.#layout.blobPath(digest);
    try {
      await file.sync();
      await mkdir(dirname(path), { recursive: true });
      await rm(path, { force: true });
      await link(file.path, path);
      await syncFolderOf(path);
    } catch (error) {
      throw storeFault(error, 'keep a blob');
    }
    this.#budget.release(sizeBytes);
    this.#budget.add(digest, sizeBytes);
  }

  async #discardIfOver(digest: Digest, running: RunningFill): Promise<void> {
    if (running.handles === 0 && this.#fills.get(digest) !== running) await running.file.discard();
  }

  /**
   * Make room for `bytes` and keep it. Looking, taking and forgetting the victims are one step, so that two that ask at the same
   * time do not get the same room.
   * @throws SpandrelError STORE_FULL if what is in use leaves no room
   */
  async #reserve(bytes: number): Promise<void> {
    const victims = this.#budget.planEviction(bytes);
    this.#budget.reserve(bytes);
    try {
      await Promise.all(victims.map((victim) => this.#evict(victim)));
    } catch (error) {
      this.#budget.release(bytes);
      throw storeFault(error, 'make room');
    }
  }

  async #evict(digest: Digest): Promise<void> {
    this.#budget.remove(digest);
    this.#options.metrics.cacheEvictions.inc({ tier: 'disk' });
    await rm(this.#layout.blobPath(digest), { force: true });
    this.#updateMetrics();
  }

  #updateMetrics(): void {
    const { storeBytes, fillsInProgress } = this.#options.metrics;
    storeBytes.set({ state: 'complete' }, this.#budget.usedBytes - this.#budget.reservedBytes);
    storeBytes.set({ state: 'partial' }, this.#budget.reservedBytes);
    fillsInProgress.set(this.#fills.size);
  }

  /** Ends the fills; their readers get SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.allSettled(Array.from(this.#fills.values(), ({ done }) => done));
    await this.#digests[Symbol.asyncDispose]();
    await this.#lock[Symbol.asyncDispose]();
  }
}
