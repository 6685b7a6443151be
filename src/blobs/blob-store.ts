import { mkdir } from 'node:fs/promises';

import type { Digest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { isSystemError } from '../core/node-error-code.ts';
import { type ProvenBytes, provenBytes } from '../core/proven-bytes.ts';
import { steadyNow } from '../core/steady-now.ts';
import { waitFor } from '../core/wait-for.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Events } from '../telemetry/events.ts';
import type { Tracer } from '../telemetry/tracer.ts';
import { noteThreadFault } from '../threads/thread-fault.ts';
import type { BlobSource } from '../upstream/blobs/blob-source.ts';
import { damageFrom } from './files/damage-of.ts';
import { BlobFills, type FillSettings } from './fills/blob-fills.ts';
import type { BlobHandle, BlobReader } from './reads/blob-handle.ts';
import { BlobLedger } from './files/blob-ledger.ts';
import { CompleteBlobs } from './verification/complete-blobs.ts';
import { DigestWorker } from './verification/digest-worker.ts';
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
import { sweepUnfinished } from './files/unfinished-files.ts';

export interface BlobStoreOptions {
  /** Of this process: others that find the store locked are told. */
  readonly pid?: number | undefined;
  readonly root: string;
  /** Most bytes of blobs, those that are arriving included, and of what else there is. */
  readonly maxBytes: number;
  /** Bytes of the store that are no blobs. */
  readonly otherBytes?: () => number;
  readonly fill: FillSettings & {
    /** Whether a blob of which only parts are read is brought as a whole all the same; yes when not given. */
    readonly background?: boolean;
  };
  /** Of all that lies in the folder; the blobs have one of their own when it is not given. */
  readonly health?: StoreHealth;
  /** How stored blobs are verified again in the background; not at all when not given, or with no bytes a second. */
  readonly scrub?: ScrubSettings;
  readonly events: Events;
  readonly tracer?: Tracer;
  readonly logger: Logger;
  /** Ended with the store; its own when not given. */
  readonly digests?: DigestWorker;
  /** As {@link steadyNow}. */
  readonly now?: () => number;
}

export interface OpenBlobOptions {
  /** Where it is known, the upstream need not be asked before it is known what to ask for. */
  readonly provenBytes?: ProvenBytes | undefined;
  /** The size that a descriptor names. It need not be true: it decides only how the upstream is first asked. */
  readonly claimedBytes?: number | undefined;
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

/**
 * Blobs by digest on disk, bounded in bytes. What is missing is fetched once, whoever asks and however often. A fill that ends
 * before its blob is whole leaves what has arrived; it is gone on with when the blob is next asked for.
 */
export class BlobStore implements AsyncDisposable {
  readonly #options: BlobStoreOptions;
  readonly #layout: StoreLayout;
  readonly #lock: StoreLock;
  readonly #ledger: BlobLedger;
  readonly #health: StoreHealth;
  readonly #room: StoreRoom;
  readonly #digests: DigestWorker;
  readonly #memory = new ReadMemory();
  readonly #files = new OpenFiles(this.#memory);
  readonly #complete: CompleteBlobs;
  readonly #fills: BlobFills;
  #scrubber: Scrubber | undefined;
  #onDelivered: (digest: Digest, upstream: string) => void = () => undefined;

  private constructor(options: BlobStoreOptions, layout: StoreLayout, lock: StoreLock, ledger: BlobLedger) {
    const { fill: settings, maxBytes, otherBytes, events, tracer, logger, now = steadyNow } = options;
    this.#options = options;
    this.#layout = layout;
    this.#lock = lock;
    this.#ledger = ledger;
    this.#digests =
      options.digests ?? new DigestWorker({ onFault: (fault) => noteThreadFault(events, fault) });
    const letGo = (): Promise<boolean> => this.#fills.endIdle();
    const [files, digests, memory] = [this.#files, this.#digests, this.#memory];
    const health = options.health ?? new StoreHealth({ events, now: options.now });
    const room = new StoreRoom({
      maxBytes,
      otherBytes,
      layout,
      files,
      ledger,
      events,
      logger,
      health,
      letGo,
    });
    this.#health = health;
    this.#room = room;
    this.#complete = new CompleteBlobs({ layout, room, files, digests, ledger, health, now });
    this.#fills = new BlobFills({
      settings,
      layout,
      room,
      digests,
      memory,
      events,
      tracer,
      logger,
      onComplete: (digest, blob, upstream) => {
        this.#complete.keep(digest, blob);
        void this.#dropPartials(digest);
        if (upstream !== undefined) this.#onDelivered(digest, upstream);
      },
    });
    events.watchHeld('fill', () => this.#fills.counts.busy);
    // A fill has its blob in use also while it waits for readers.
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
      logger.info({ root, files: tightened }, 'what others could read of the store is closed to them');
    if (open > 0)
      logger.warn(
        { root, files: open },
        'others can read in the store, and what they can is not ours to close',
      );
    const layout = new StoreLayout(root);
    const upgrade = await layout.prepare();
    if (upgrade !== undefined)
      logger.info({ root, ...upgrade }, 'the store of an earlier version has been taken over');
    const ledger = opening.use(BlobLedger.open(layout.ledgerPath, logger));
    const store = new BlobStore(options, layout, lock, ledger);
    await store.#takeStock();
    opening.move();
    return store;
  }

  /** Find out what is there, drop what is damaged and what is too much, and begin to verify the rest again. */
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

  /** `listener` is told of each blob that an upstream has sent in full, once its digest has been found right. */
  onDelivered(listener: (digest: Digest, upstream: string) => void): void {
    this.#onDelivered = listener;
  }

  /** A blob that is whole, or what has come of it from one upstream. */
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

  /** How far the blobs have been verified again; nothing where that is switched off. */
  get scrub(): ScrubState | undefined {
    return this.#scrubber?.state;
  }

  /** Size of a blob that the store has as a whole, as far as can be seen without reading it. @throws SpandrelError STORE_FAILED */
  storedSize(digest: Digest): Promise<number | undefined> {
    return this.#complete.sizeOf(digest);
  }

  /**
   * Read all of a stored blob, and condemn it if its digest is wrong: whoever opens it then has it fetched anew.
   * @returns false if the store does not have it, or no more
   * @throws SpandrelError STORE_FAILED if it could not be found out
   */
  verify(digest: Digest): Promise<boolean> {
    return this.#complete.verify(digest);
  }

  /** As {@link verify}, where something speaks against the blob: nobody opens it meanwhile. One just found right is not read again. */
  suspect(digest: Digest): Promise<boolean> {
    return this.#complete.suspect(digest);
  }

  /** Whether what comes is stored: no write has failed within the last ten seconds, and one that is tried succeeds. */
  async isWritable(): Promise<boolean> {
    return (await this.#layout.isWritable()) && !this.#health.isFailing;
  }

  /** Have blobs that nobody reads go until everything fits. */
  trim(): Promise<void> {
    return this.#room.trim();
  }

  usage(): { readonly bytes: number; readonly maxBytes: number; readonly blobs: number } {
    const { usedBytes, count } = this.#room.budget;
    return { bytes: usedBytes, maxBytes: this.#options.maxBytes, blobs: count };
  }

  /**
   * Open a blob in a file: from disk, or by joining its fill, or by starting one.
   * @throws SpandrelError BLOB_UNKNOWN, STORE_FULL, STORE_FAILED, BLOB_CORRUPT if it has another size, UPSTREAM_*
   */
  openBlob(digest: Digest, source: BlobSource, options: OpenBlobOptions = {}): Promise<BlobHandle> {
    return this.#open(digest, source, options, true);
  }

  /**
   * Open a blob for reading, if need be without the store: when that cannot take it or fails, bytes come from the upstream as they
   * would without it. Whoever reads all of a stored blob whose digest this process has not seen yet gets the end only when that is right.
   * @throws SpandrelError BLOB_UNKNOWN, BLOB_CORRUPT if it has another size, UPSTREAM_*
   */
  async readBlob(digest: Digest, source: BlobSource, options: OpenBlobOptions = {}): Promise<BlobReader> {
    const handle = await this.#openIfPossible(digest, source, options);
    const sizeBytes = handle?.sizeBytes ?? options.provenBytes ?? (await fetchSize(source, options.signal));
    if (handle?.stored !== undefined && !this.#complete.isProven(handle.stored))
      this.#scrubber?.prefer(digest);
    return new ResilientReader({
      digest,
      sizeBytes,
      handle,
      passThrough: new PassThrough({ digest, sizeBytes, source, digests: this.#digests }),
      prove: (stored) => (this.#complete.isProven(stored) ? undefined : this.#prove(digest)),
      onStoreFault: async (failed, error) => {
        this.#options.logger.warn({ blob: digest, err: error }, 'the store failed a reader');
        if (failed.stored === undefined || isPassingFault(error)) return undefined;
        await this.#complete.condemn(digest, failed.stored, damageFrom(error.cause));
        return this.#openIfPossible(digest, source, { ...options, complete: true });
      },
    });
  }

  /** False if a stored blob is wrong. One that cannot be verified at the moment counts as right, as it was once. */
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
   * True if there was such a blob, or a part of it.
   * @param signal  how long its readers, its fill and a build of its index may be waited for; not at all when not given
   * @throws SpandrelError OVERLOADED if it is in use all the time
   */
  async deleteBlob(digest: Digest, signal?: AbortSignal): Promise<boolean> {
    const { budget } = this.#room;
    await this.#fills.endIdle(digest);
    const inUse = (): StoreKey | undefined => budget.keysOf(digest).find((key) => budget.isPinned(key));
    for (let key = inUse(); key !== undefined; key = inUse()) {
      if (signal === undefined || signal.aborted)
        throw new SpandrelError('OVERLOADED', 'the blob is in use; try again when its readers are done');
      await Promise.allSettled([waitFor(budget.whenFree(key), signal)]);
      await this.#fills.endIdle(digest);
    }
    const keys = budget.keysOf(digest);
    for (const key of keys) await this.#room.remove(key, 'evicted');
    return keys.length > 0;
  }

  /** What has come of a blob from other upstreams is of no use when it is whole. Whoever still reads it keeps it. */
  async #dropPartials(digest: Digest): Promise<void> {
    const { budget } = this.#room;
    await this.#fills.endIdle(digest);
    for (const key of budget.keysOf(digest))
      if (key !== digest && !budget.isPinned(key)) await this.#room.remove(key);
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
    this.#ledger[Symbol.dispose]();
    await this.#lock[Symbol.asyncDispose]();
  }
}

/** Size of a blob of which nothing is known. */
async function fetchSize(source: BlobSource, signal: AbortSignal | undefined): Promise<ProvenBytes> {
  const leaving = new AbortController();
  const wanted = signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]);
  try {
    return provenBytes((await source.fetch({ start: 0, end: 1 }, wanted)).totalBytes);
  } finally {
    leaving.abort();
  }
}
