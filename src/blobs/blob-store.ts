import { mkdir } from 'node:fs/promises';

import type { Digest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { isSystemError } from '../core/node-error-code.ts';
import type { ProvenBytes } from '../core/proven-bytes.ts';
import { steadyNow } from '../core/steady-now.ts';
import { waitFor } from '../core/wait-for.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Events } from '../telemetry/events.ts';
import type { StoreState } from '../telemetry/metrics.ts';
import type { Tracer } from '../telemetry/tracer.ts';
import { noteThreadFault } from '../threads/thread-fault.ts';
import type { BlobSource } from '../core/sources/blob-source.ts';
import type { BlobTier } from '../core/sources/blob-tier.ts';
import { fetchBlobSize } from './fetch-blob-size.ts';
import { damageFrom } from './files/damage-of.ts';
import { BlobFills, type FillSettings } from './fills/blob-fills.ts';
import type { BlobHandle, BlobReader } from './reads/blob-handle.ts';
import { BlobLedger } from './files/blob-ledger.ts';
import { CompleteBlobs } from './verification/complete-blobs.ts';
import { DigestPool } from './verification/digest-pool.ts';
import { OpenFiles } from './files/open-files.ts';
import { PassThrough } from './pass-through.ts';
import { ReadMemory } from './files/read-memory.ts';
import { ResilientReader } from './resilient-reader.ts';
import { Scrubber, type ScrubSettings, type ScrubState } from './verification/scrubber.ts';
import { isPassingFault, isStoreFault, storeFault } from './files/store-fault.ts';
import { StoreHealth } from './files/store-health.ts';
import { digestOfKey, partialKey, type StoreKey } from './files/store-key.ts';
import { StoreLayout } from './files/store-layout.ts';
import { StoreLock } from './files/store-lock.ts';
import { StoreRoom } from './files/store-room.ts';
import { tightenModes } from './files/tighten-modes.ts';
import { sweepUnfinished } from './files/sweep-unfinished.ts';

export interface BlobStoreOptions {
  /** Process id for the error of other processes that find the store locked. */
  readonly pid?: number | undefined;
  readonly root: string;
  /** Limit of the store in bytes: blobs, arriving ones included, and other files. */
  readonly maxBytes: number;
  /** Bytes of the store that are not blobs. */
  readonly otherBytes?: () => number;
  readonly fill: FillSettings & {
    /** Whether to fetch the rest of a blob of which only parts are read; default true. */
    readonly background?: boolean;
  };
  /** Shared by everything in the folder; by default the blobs have their own. */
  readonly health?: StoreHealth;
  /** Settings of the scrub; without them, or with a rate of 0, there is none. */
  readonly scrub?: ScrubSettings;
  /** Asked in order before the upstream. */
  readonly tiers?: readonly BlobTier[];
  readonly events: Events;
  readonly tracer?: Tracer;
  readonly logger: Logger;
  /** Disposed of with the store; by default the store has its own. */
  readonly digests?: DigestPool;
  /** As {@link steadyNow}. */
  readonly now?: () => number;
}

export interface OpenBlobOptions {
  /** If it is known, a fill can start without a first request for the size. */
  readonly provenBytes?: ProvenBytes | undefined;
  /** Size in a descriptor. It may be wrong: it only decides how the upstream is first asked. */
  readonly claimedBytes?: number | undefined;
  /** Ends the wait of this caller, never the fill. */
  readonly signal?: AbortSignal | undefined;
  /** Fetch the whole blob, whatever is read; default: as the store is configured. */
  readonly complete?: boolean | undefined;
  /**
   * If a new fill starts, wait for the first response of `source` before the blob opens, even if the size is
   * known.
   */
  readonly askFirst?: boolean | undefined;
}

export interface BlobStat {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly state: 'complete' | 'partial';
}

/**
 * Blobs by digest on disk, bounded in bytes. Missing bytes are fetched once for all readers. A fill that ends
 * before its blob is complete keeps what has arrived; the next request resumes it.
 */
export class BlobStore implements AsyncDisposable {
  readonly #options: BlobStoreOptions;
  readonly #layout: StoreLayout;
  readonly #lock: StoreLock;
  readonly #ledger: BlobLedger;
  readonly #health: StoreHealth;
  readonly #room: StoreRoom;
  readonly #digests: DigestPool;
  readonly #memory = new ReadMemory();
  readonly #files = new OpenFiles(this.#memory);
  readonly #complete: CompleteBlobs;
  readonly #fills: BlobFills;
  #scrubber: Scrubber | undefined;
  #onDelivered: (digest: Digest, upstream: string) => void = () => undefined;

  private constructor(options: BlobStoreOptions, layout: StoreLayout, lock: StoreLock, ledger: BlobLedger) {
    const { fill: settings, maxBytes, otherBytes, events, tracer, logger, now = steadyNow } = options;
    const { tiers = [] } = options;
    this.#options = options;
    this.#layout = layout;
    this.#lock = lock;
    this.#ledger = ledger;
    this.#digests = options.digests ?? new DigestPool({ onFault: (fault) => noteThreadFault(events, fault) });
    const releaseIdle = (): Promise<boolean> => this.#fills.endIdle();
    const [files, digests, memory] = [this.#files, this.#digests, this.#memory];
    const health = options.health ?? new StoreHealth({ events, now: options.now });
    const shared = { layout, events, logger };
    const room = new StoreRoom({ ...shared, maxBytes, otherBytes, files, ledger, health, releaseIdle });
    this.#health = health;
    this.#room = room;
    this.#complete = new CompleteBlobs({ layout, room, files, digests, ledger, health, now });
    this.#fills = new BlobFills({
      ...shared,
      settings,
      tiers,
      room,
      digests,
      memory,
      tracer,
      onComplete: (digest, blob, upstream) => {
        this.#complete.keep(digest, blob);
        if (upstream !== undefined) this.#onDelivered(digest, upstream);
      },
    });
    events.watchHeld('fill', () => this.#fills.counts.busy);
    // An idle fill, which waits for readers, keeps its blob pinned too.
    events.watchHeld('blob', () => room.budget.pins - this.#fills.counts.idle);
    events.watchHeld('file', () => files.inUse);
    events.watchHeld('buffer', () => memory.inUse);
    events.watchHeld('task', () => this.#complete.verifying);
  }

  /** @throws SpandrelError STORE_LOCKED if another process owns the folder; STORE_FULL, STORE_FAILED */
  static async open(options: BlobStoreOptions): Promise<BlobStore> {
    try {
      return await BlobStore.#openNow(options);
    } catch (error) {
      throw isSystemError(error) ? storeFault(error, `open ${options.root}`) : error;
    }
  }

  static async #openNow(options: BlobStoreOptions): Promise<BlobStore> {
    await mkdir(options.root, { recursive: true });
    await using opening = new AsyncDisposableStack();
    const lock = opening.use(await StoreLock.acquire(options.root, options.pid));
    const { root, logger } = options;
    const { tightened, open } = tightenModes(root);
    if (tightened > 0)
      logger.info({ root, files: tightened }, 'removed permissions of other users from files of the store');
    if (open > 0)
      logger.warn(
        { root, files: open },
        'other users can read files of the store, which belong to another user',
      );
    const layout = new StoreLayout(root);
    const upgrade = await layout.prepare();
    if (upgrade !== undefined)
      logger.info({ root, ...upgrade }, 'the store of an earlier version has been upgraded');
    const ledger = opening.use(BlobLedger.open(layout.ledgerPath, logger));
    const store = new BlobStore(options, layout, lock, ledger);
    await store.#takeStock();
    opening.move();
    return store;
  }

  /** Lists the blobs on disk, removes damaged ones, evicts to the limit, and starts the scrub. */
  async #takeStock(): Promise<void> {
    const { scrub, events, logger, now = steadyNow } = this.#options;
    const { budget } = this.#room;
    const verified = this.#ledger.sizes();
    const { blobs, damaged, leftovers } = this.#layout.scan(verified, now());
    const { root } = this.#options;
    await sweepUnfinished(root, leftovers, logger);
    for (const { key, usedAtMs: _, ...blob } of blobs) budget.set(key, blob);
    for (const { digest, damage } of damaged) {
      const blob = { sizeBytes: 0, heldBytes: 0 };
      budget.set(digest, blob);
      await this.#complete.condemn(digest, blob, damage);
      verified.delete(digest);
    }
    const missing = [...verified.keys()].filter((digest) => budget.get(digest) === undefined);
    for (const digest of missing) this.#ledger.forget(digest);
    if (missing.length > 0) events.storedBlobsMissing(missing.length);
    await this.#room.trim();
    this.#room.updateMetrics();
    if (scrub === undefined || scrub.bytesPerSecond === 0) return;
    const [complete, ledger] = [this.#complete, this.#ledger];
    this.#scrubber = new Scrubber({ ...scrub, blobs: complete, budget, ledger, events, logger, now });
  }

  /** Calls `listener` for each blob that an upstream sent in full, once its digest is verified. */
  onDelivered(listener: (digest: Digest, upstream: string) => void): void {
    this.#onDelivered = listener;
  }

  /** A complete blob, or the partial one of an upstream. */
  stat(digest: Digest, upstream?: string): BlobStat | undefined {
    const { budget } = this.#room;
    const blob = budget.get(digest) ?? budget.get(partialKey(digest, upstream));
    if (blob === undefined) return undefined;
    const { sizeBytes, partialPath } = blob;
    return { digest, sizeBytes, state: partialPath === undefined ? 'complete' : 'partial' };
  }

  *list(): Generator<BlobStat> {
    for (const [key, { sizeBytes, partialPath }] of this.#room.budget.entries()) {
      const state = partialPath === undefined ? 'complete' : 'partial';
      yield { digest: digestOfKey(key), sizeBytes, state };
    }
  }

  /** Progress of the scrub; `undefined` if it is off. */
  get scrub(): ScrubState | undefined {
    return this.#scrubber?.state;
  }

  /** Size of a complete blob, without reading it. @throws SpandrelError STORE_FAILED */
  storedSize(digest: Digest): Promise<number | undefined> {
    return this.#complete.sizeOf(digest);
  }

  /** Opens a complete blob; `undefined` if the store does not have it. @throws SpandrelError STORE_FAILED */
  openStored(digest: Digest): Promise<BlobHandle | undefined> {
    return this.#complete.open(digest, { byName: true });
  }

  /** Size of a blob that a tier has. @throws the reason of `signal` */
  async sizeInTiers(digest: Digest, upstream: string, signal: AbortSignal): Promise<number | undefined> {
    for (const tier of this.#options.tiers ?? []) {
      const sizeBytes = await tier.size?.(digest, upstream, signal);
      if (sizeBytes !== undefined) return sizeBytes;
    }
    return undefined;
  }

  /**
   * Verifies a stored blob by reading it, and condemns it if its digest is wrong: the next request fetches it
   * again.
   * @returns false if the store does not have it, or no longer
   * @throws SpandrelError STORE_FAILED if the blob could not be verified
   */
  verify(digest: Digest): Promise<boolean> {
    return this.#complete.verify(digest);
  }

  /** As {@link verify}, for a blob in doubt: it cannot be opened meanwhile. One just verified is not read. */
  suspect(digest: Digest): Promise<boolean> {
    return this.#complete.suspect(digest);
  }

  /** Writable: no write has failed within ten seconds, and a test write succeeds. */
  async state(): Promise<StoreState> {
    const [layout, lock, health] = [this.#layout, this.#lock, this.#health];
    const asked = [layout.isWritable(), lock.isHeld(), layout.freeBytes()] as const;
    const [isWritable, isLocked, freeBytes] = await Promise.all(asked);
    return { isWritable: isWritable && !health.isFailing, isLocked, freeBytes };
  }

  /** Evicts unused blobs until the store is within its limit. */
  trim(): Promise<void> {
    return this.#room.trim();
  }

  usage(): { readonly bytes: number; readonly maxBytes: number; readonly blobs: number } {
    const { usedBytes, count } = this.#room.budget;
    return { bytes: usedBytes, maxBytes: this.#options.maxBytes, blobs: count };
  }

  /**
   * Opens a blob in a file: from disk, by joining its fill, or by starting one.
   * @throws SpandrelError BLOB_UNKNOWN, STORE_FULL, STORE_FAILED, BLOB_CORRUPT if it has another size,
   * UPSTREAM_*
   */
  openBlob(digest: Digest, source: BlobSource, options: OpenBlobOptions = {}): Promise<BlobHandle> {
    return this.#open(digest, source, options, true);
  }

  /**
   * Opens a blob for reading. If the store has no room or fails, bytes come from the upstream. A reader of a
   * whole stored blob that this process has not verified gets its end only when the digest is verified.
   * @throws SpandrelError BLOB_UNKNOWN, BLOB_CORRUPT if it has another size, UPSTREAM_*
   */
  async readBlob(digest: Digest, source: BlobSource, options: OpenBlobOptions = {}): Promise<BlobReader> {
    const handle = await this.#openIfPossible(digest, source, options);
    const sizeBytes =
      handle?.sizeBytes ?? options.provenBytes ?? (await fetchBlobSize(source, options.signal));
    if (handle?.stored !== undefined && !this.#complete.isProven(handle.stored))
      this.#scrubber?.prefer(digest);
    return new ResilientReader({
      digest,
      sizeBytes,
      handle,
      passThrough: new PassThrough({ digest, sizeBytes, source, digests: this.#digests }),
      prove: (stored) => (this.#complete.isProven(stored) ? undefined : this.#prove(digest)),
      onStoreFault: async (failed, error) => {
        this.#options.logger.warn({ blob: digest, err: error }, 'a read from the store failed');
        if (failed.stored === undefined || isPassingFault(error)) return undefined;
        await this.#complete.condemn(digest, failed.stored, damageFrom(error.cause));
        return this.#openIfPossible(digest, source, { ...options, complete: true });
      },
    });
  }

  /**
   * False if a stored blob is wrong. One that cannot be verified now counts as right, because it was verified
   * before.
   */
  async #prove(digest: Digest): Promise<boolean> {
    try {
      return await this.#complete.verify(digest);
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      this.#options.logger.warn({ blob: digest, err: error }, 'a blob could not be verified');
      return true;
    }
  }

  /**
   * Deletes a blob, whole and partial; false if there is none.
   * @param signal limits the wait for its readers, its fill and the build of its index; without it there is
   * no wait
   * @throws SpandrelError OVERLOADED if it stays in use
   */
  async deleteBlob(digest: Digest, signal?: AbortSignal): Promise<boolean> {
    const { budget } = this.#room;
    await this.#fills.endIdle(digest);
    const inUse = (): StoreKey | undefined => budget.keysOf(digest).find((key) => budget.isPinned(key));
    for (let key = inUse(); key !== undefined; key = inUse()) {
      if (signal === undefined || signal.aborted)
        throw new SpandrelError('OVERLOADED', 'the blob is in use: try again when its readers are done');
      await Promise.allSettled([waitFor(budget.whenFree(key), signal)]);
      await this.#fills.endIdle(digest);
    }
    const keys = budget.keysOf(digest);
    for (const key of keys) await this.#room.remove(key, 'evicted');
    return keys.length > 0;
  }

  async #open(
    digest: Digest,
    source: BlobSource,
    options: OpenBlobOptions,
    byName: boolean,
  ): Promise<BlobHandle> {
    const { provenBytes, claimedBytes, signal, askFirst = false } = options;
    const { complete: mustComplete = this.#options.fill.background ?? true } = options;
    const request = { digest, source, provenBytes, claimedBytes, mustComplete, askFirst };
    signal?.throwIfAborted();
    for (;;) {
      const stored = await this.#complete.open(digest, { byName, signal });
      if (stored !== undefined && source.upstream !== undefined)
        for (const tier of this.#options.tiers ?? []) tier.used?.(digest, source.upstream);
      const handle = stored ?? (await this.#fills.open(request, signal));
      if (handle === undefined) continue;
      if (provenBytes === undefined || handle.sizeBytes === provenBytes) return handle;
      await using _ = handle;
      throw new SpandrelError(
        'BLOB_CORRUPT',
        `the blob should have ${provenBytes} bytes, but it has ${handle.sizeBytes}`,
      );
    }
  }

  async #openIfPossible(
    digest: Digest,
    source: BlobSource,
    options: OpenBlobOptions,
  ): Promise<BlobHandle | undefined> {
    try {
      return await this.#open(digest, source, options, false);
    } catch (error) {
      if (!isStoreFault(error)) throw error;
      const { code, message } = error;
      this.#options.logger.warn({ blob: digest, code, cause: message }, 'a blob is passed through');
      return undefined;
    }
  }

  /** Ends the fills; their readers get SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#scrubber?.[Symbol.asyncDispose]();
    await this.#fills[Symbol.asyncDispose]();
    await this.#digests[Symbol.asyncDispose]();
    await this.#files[Symbol.asyncDispose]();
    await this.#room[Symbol.asyncDispose]();
    this.#ledger[Symbol.dispose]();
    await this.#lock[Symbol.asyncDispose]();
  }
}
