import { SingleFlight } from '../../cache/single-flight.ts';
import { type ByteRange, rangeLength } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { type ProvenBytes, provenBytes as toProvenBytes } from '../../core/proven-bytes.ts';
import { waitFor } from '../../core/wait-for.ts';
import { WorkQueue } from '../../core/work/work-queue.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Tracer } from '../../telemetry/tracer.ts';
import type { BlobSource } from '../../core/sources/blob-source.ts';
import type { BlobTier, TierOutcome } from '../../core/sources/blob-tier.ts';
import type { BlobHandle } from '../reads/blob-handle.ts';
import type { DigestPool } from '../verification/digest-pool.ts';
import { FillSources } from './fill-sources.ts';
import { Fill } from './fill.ts';
import { PartialFile } from '../files/partial-file.ts';
import type { ReadMemory } from '../files/read-memory.ts';
import { RunningFill } from './running-fill.ts';
import type { StoredBlob } from '../files/store-budget.ts';
import { digestOfKey, partialKey, type StoreKey } from '../files/store-key.ts';
import { isPassingFault, storeFault } from '../files/store-fault.ts';
import type { StoreLayout } from '../files/store-layout.ts';
import type { StoreRoom } from '../files/store-room.ts';
import type { StoredPiece } from '../files/stored-piece.ts';

export interface FillSettings {
  /** Concurrent upstream requests of one blob. */
  readonly parallel: number;
  readonly chunkBytes: number;
  /** Concurrent fills, and waiting ones. */
  readonly blobs?: number;
  readonly maxWaiting?: number;
  /** A request that brings less than 64 KiB in this time is replaced. */
  readonly stallTimeoutMs?: number;
}

export interface BlobFillsDeps {
  readonly settings: FillSettings;
  /** Asked in order before the upstream. */
  readonly tiers: readonly BlobTier[];
  readonly layout: StoreLayout;
  readonly room: StoreRoom;
  readonly digests: DigestPool;
  readonly memory: ReadMemory;
  readonly events: Events;
  readonly tracer: Tracer | undefined;
  readonly logger: Logger;
  /**
   * Called when a blob is complete and in its place. `upstream` sent all of its bytes; `undefined` if a tier
   * may have sent some.
   */
  readonly onComplete: (digest: Digest, blob: StoredBlob, upstream: string | undefined) => void;
}

/** A caller's knowledge of a blob, and what it wants. */
export interface FillRequest {
  readonly digest: Digest;
  readonly source: BlobSource;
  readonly provenBytes: ProvenBytes | undefined;
  readonly claimedBytes: number | undefined;
  /** Fetch the whole blob, whatever is read. */
  readonly mustComplete: boolean;
  /** Wait for the source's first response before the fill starts. */
  readonly askFirst: boolean;
}

/** A file of an earlier fill. */
interface LeftOver {
  readonly file: PartialFile;
  readonly sizeBytes: number;
  readonly pieces: readonly StoredPiece[];
}

/** Smaller parts of a blob cost more in requests than they save in time. */
const MIN_CHUNK_BYTES = 1024 * 1024;
const CHUNK_ALIGNMENT_BYTES = 64 * 1024;
const STALL_TIMEOUT_MS = 30_000;
const MAX_BLOBS = 256;
const MAX_WAITING = 1000;
/** First request of a fill that fetches only what is read, if it must ask for something. */
const PROBE_BYTES = 64 * 1024;

/** Runs the fills, one for each blob and upstream, and starts them. */
export class BlobFills implements AsyncDisposable {
  readonly #deps: BlobFillsDeps;
  readonly #running = new Map<StoreKey, RunningFill>();
  readonly #starts: SingleFlight<RunningFill>;
  readonly #underWay = new Set<Promise<RunningFill>>();
  /** Sources of fills that are starting. */
  readonly #starting = new Map<StoreKey, FillSources>();
  readonly #stopping = new AbortController();
  readonly #queue: WorkQueue;

  constructor(deps: BlobFillsDeps) {
    this.#deps = deps;
    const { blobs: maxRunning = MAX_BLOBS, maxWaiting = MAX_WAITING } = deps.settings;
    this.#queue = new WorkQueue({ maxRunning, maxWaiting });
    this.#starts = new SingleFlight('blob', deps.events);
  }

  /** Number of fills with readers or starting, and of idle ones, which wait for readers. */
  get counts(): { readonly busy: number; readonly idle: number } {
    const idle = [...this.#running.values()].filter(({ isIdle }) => isIdle).length;
    return { busy: this.#underWay.size + this.#running.size - idle, idle };
  }

  /**
   * A handle on the fill of an incomplete blob: a running one, a resumed one, or a new one.
   * @returns undefined if the blob has become complete meanwhile
   * @throws SpandrelError as `BlobStore.openBlob`; OVERLOADED if too many fills wait
   */
  async open(request: FillRequest, signal: AbortSignal | undefined): Promise<BlobHandle | undefined> {
    const { source, mustComplete } = request;
    const key = keyOf(request);
    const running = this.#running.get(key);
    if (running?.isStopping === true) {
      await waitFor(Promise.allSettled([running.done]), signal);
      return undefined;
    }
    if (running !== undefined) {
      this.#deps.events.flightJoined('blob');
      running.fill.addSource(source);
      return running.join(mustComplete);
    }
    this.#starting.get(key)?.add(source);
    const started = await this.#starts.run(key, () => this.#startAndNote(request), signal);
    if (this.#running.get(key) === started && !started.isStopping) return started.join(mustComplete);
    // A small fill may already have ended.
    await waitFor(started.done, signal);
    return undefined;
  }

  /** Ends idle fills: that of `digest`, or all. @returns whether any has ended */
  async endIdle(digest?: Digest): Promise<boolean> {
    const fills = [...this.#running].filter(([key]) => digest === undefined || digestOfKey(key) === digest);
    for (const [, running] of fills) if (running.isIdle) running.stop();
    const ending = fills.filter(([, { isStopping }]) => isStopping);
    await Promise.allSettled(ending.map(([, { done }]) => done));
    return ending.length > 0;
  }

  async #startAndNote(request: FillRequest): Promise<RunningFill> {
    const start = this.#startWith(request);
    this.#underWay.add(start);
    try {
      return await start;
    } finally {
      this.#underWay.delete(start);
    }
  }

  async #startWith(request: FillRequest): Promise<RunningFill> {
    const { digest, source } = request;
    const key = keyOf(request);
    const { room, tiers } = this.#deps;
    const sources = new FillSources(digest, source, tiers);
    this.#starting.set(key, sources);
    const unpin = room.budget.pin(key);
    // The first request must not outlive the fill: an unread response keeps its connection.
    const firstRequest = new AbortController();
    const onStop = (): void => firstRequest.abort(this.#stopping.signal.reason);
    this.#stopping.signal.addEventListener('abort', onStop, { once: true });
    let left: LeftOver | undefined;
    let leaveQueue = (): void => undefined;
    try {
      if (this.#queue.isFull) [...this.#running.values()].find(({ isIdle }) => isIdle)?.stop();
      leaveQueue = await this.#enterQueue(source.repositoryKey);
      room.assertUsable();
      left = await this.#resume(request);
      const running = await this.#start(request, sources, left, firstRequest);
      // The first caller may have left before the others joined.
      setImmediate(() => void running.afterUse());
      void running.done.then(leaveQueue, leaveQueue);
      return running;
    } catch (error) {
      leaveQueue();
      firstRequest.abort(error);
      sources.end('failed');
      await left?.file.close();
      throw error;
    } finally {
      unpin();
      this.#starting.delete(key);
      this.#stopping.signal.removeEventListener('abort', onStop);
    }
  }

  async #enterQueue(repositoryKey: string | undefined): Promise<() => void> {
    const enter = (): Promise<() => void> => this.#queue.enter(this.#stopping.signal, repositoryKey);
    if (!this.#queue.isFull) return enter();
    // The names of upstreams have no slash.
    const [upstream = ''] = repositoryKey?.split('/') ?? [];
    const words = `blobs wait for fill.blobs (${this.#queue.running})`;
    using _waits = this.#deps.events.limits.requestWaits({ upstream, reason: 'fills', words });
    return await enter();
  }

  async #resume(request: FillRequest): Promise<LeftOver | undefined> {
    const { digest, provenBytes } = request;
    const key = keyOf(request);
    const { room, logger } = this.#deps;
    const path = room.budget.get(key)?.partialPath;
    if (path === undefined) return undefined;
    try {
      const left = await PartialFile.resume(path, digest);
      if (left !== undefined && (provenBytes === undefined || left.sizeBytes === provenBytes)) return left;
      await left?.file.close();
    } catch (error) {
      if (!isSpandrelError(error) || isPassingFault(error)) throw error;
      logger.warn({ blob: digest, err: error }, 'the file of an earlier fill cannot be opened');
    }
    await room.remove(key);
    return undefined;
  }

  async #start(
    request: FillRequest,
    sources: FillSources,
    left: LeftOver | undefined,
    firstRequest: AbortController,
  ): Promise<RunningFill> {
    const { digest, source, mustComplete, provenBytes } = request;
    const key = keyOf(request);
    const { layout, room, digests, memory, events, tracer, logger, settings, onComplete } = this.#deps;
    const { parallel, stallTimeoutMs = STALL_TIMEOUT_MS } = settings;
    const asked = left === undefined ? this.#planFirst(request) : undefined;
    const response = asked && (await sources.fetch(asked, firstRequest.signal, provenBytes));
    const sizeBytes = toProvenBytes(left?.sizeBytes ?? provenBytes ?? response?.totalBytes ?? 0);
    // The first response fills its chunk only, if the upstream supports ranges.
    const chunkBytes = Math.max(asked?.end ?? 0, planChunkBytes(sizeBytes, settings));
    const pieces = left?.pieces ?? [];
    if (pieces.length > 0) sources.addUnknownSenders();
    const partialPath = left?.file.path ?? layout.newPartialPath(key);
    const heldBytes = mustComplete ? sizeBytes : pieces.reduce((sum, piece) => sum + rangeLength(piece), 0);
    const unpin = await room.take(key, () => ({ sizeBytes, heldBytes, partialPath }));
    const file = left?.file ?? (await this.#createFile(key, partialPath, sizeBytes, unpin));
    const first = response && { response, request: firstRequest };
    const reserve = (bytes: number): Promise<void> => this.#reserve(key, bytes);
    const options = { digest, sources, file, sizeBytes, pieces, first, parallel, chunkBytes };
    const fill = new Fill({ ...options, stallTimeoutMs, digests, reserve }, mustComplete);
    const onOver = (outcome: TierOutcome): void => {
      this.#setRunning(key, undefined);
      sources.end(outcome);
    };
    const noteComplete = (blob: StoredBlob): void => {
      onComplete(digest, blob, sources.isFromUpstream ? source.upstream : undefined);
      void this.#dropPartials(digest);
    };
    const running = new RunningFill(
      {
        key,
        sizeBytes,
        repositoryKey: source.repositoryKey,
        fill,
        file,
        layout,
        room,
        memory,
        events,
        tracer,
        logger,
        onComplete: noteComplete,
        onOver,
      },
      unpin,
    );
    this.#setRunning(key, running);
    if (this.#stopping.signal.aborted) running.stop(this.#stopping.signal.reason as Error);
    return running;
  }

  /** Removes partial blobs of other upstreams when the blob is complete. Their readers keep them. */
  async #dropPartials(digest: Digest): Promise<void> {
    const { room } = this.#deps;
    await this.endIdle(digest);
    for (const key of room.budget.keysOf(digest))
      if (key !== digest && !room.budget.isPinned(key)) await room.remove(key);
  }

  /**
   * The first request of a fill, which finds the blob's size and whether ranges are supported. `undefined` if
   * neither is needed.
   */
  #planFirst(request: FillRequest): ByteRange | undefined {
    const { provenBytes, claimedBytes, askFirst, mustComplete } = request;
    const chunkBytes = planChunkBytes(provenBytes ?? claimedBytes, this.#deps.settings);
    const needsNoRanges = !mustComplete || (provenBytes !== undefined && provenBytes <= chunkBytes);
    if (provenBytes !== undefined && !askFirst && needsNoRanges) return undefined;
    return { start: 0, end: mustComplete ? chunkBytes : PROBE_BYTES };
  }

  async #createFile(key: StoreKey, path: string, sizeBytes: number, unpin: () => void): Promise<PartialFile> {
    const { room } = this.#deps;
    try {
      return await PartialFile.create(path, digestOfKey(key), sizeBytes);
    } catch (error) {
      await room.discardPartial(path);
      unpin();
      room.budget.remove(key);
      room.updateMetrics();
      await room.relieve(storeFault(error, 'create a file'), sizeBytes);
      throw error;
    }
  }

  async #reserve(key: StoreKey, bytes: number): Promise<void> {
    const release = await this.#deps.room.take(
      key,
      (before) => before && { ...before, heldBytes: before.heldBytes + bytes },
    );
    release();
  }

  #setRunning(key: StoreKey, running: RunningFill | undefined): void {
    if (running === undefined) this.#running.delete(key);
    else this.#running.set(key, running);
    this.#deps.events.fillsChanged(this.#running.size);
  }

  /** Ends all fills. Their readers get SHUTTING_DOWN; arrived bytes stay. */
  async [Symbol.asyncDispose](): Promise<void> {
    const reason = new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped');
    this.#stopping.abort(reason);
    for (const running of this.#running.values()) running.stop(reason);
    await Promise.allSettled(this.#underWay);
    await Promise.allSettled(Array.from(this.#running.values(), ({ done }) => done));
  }
}

function keyOf({ digest, source }: FillRequest): StoreKey {
  return partialKey(digest, source.upstream);
}

/**
 * Cuts a blob of a few chunks into as many parts as may be fetched concurrently, so that every connection is
 * used.
 */
function planChunkBytes(sizeBytes: number | undefined, { parallel, chunkBytes }: FillSettings): number {
  if (sizeBytes === undefined) return chunkBytes;
  const share = Math.ceil(sizeBytes / parallel / CHUNK_ALIGNMENT_BYTES) * CHUNK_ALIGNMENT_BYTES;
  return Math.min(chunkBytes, Math.max(share, MIN_CHUNK_BYTES));
}
