import { link, mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

import type { TierOutcome } from '../../core/sources/blob-tier.ts';
import { errorCodeOf, isSpandrelError } from '../../core/errors.ts';
import type { ProvenBytes } from '../../core/proven-bytes.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import { NO_TRACER, type Tracer, type TraceSpan } from '../../telemetry/tracer.ts';
import type { BlobHandle } from '../reads/blob-handle.ts';
import { FileReads } from '../files/file-reads.ts';
import type { Fill } from './fill.ts';
import { OpenBlob } from '../reads/open-blob.ts';
import type { PartialFile } from '../files/partial-file.ts';
import type { ReadMemory } from '../files/read-memory.ts';
import type { StoredBlob } from '../files/store-budget.ts';
import { storeFault } from '../files/store-fault.ts';
import { digestOfKey, type StoreKey } from '../files/store-key.ts';
import { mapPathOf, type StoreLayout, syncFolderOf } from '../files/store-layout.ts';
import type { StoreRoom } from '../files/store-room.ts';

/** How long an idle fill stays open: lazily starting nodes read a blob in many places. */
const LINGER_MS = 2000;

export interface RunningFillOptions {
  readonly key: StoreKey;
  readonly sizeBytes: ProvenBytes;
  /** Upstream and repository of the request that started the fill, as in {@link BlobSource.repositoryKey}. */
  readonly repositoryKey: string | undefined;
  readonly fill: Fill;
  readonly file: PartialFile;
  readonly layout: StoreLayout;
  readonly room: StoreRoom;
  readonly memory: ReadMemory;
  readonly events: Events;
  readonly tracer: Tracer | undefined;
  readonly logger: Logger;
  /** Called when the blob is in its place. */
  readonly onComplete: (blob: StoredBlob) => void;
  /** Called when the fill is over, in the same step as the change of the store's state. */
  readonly onOver: (outcome: TierOutcome) => void;
}

/** A fill with its file and its handles, and its end. */
export class RunningFill {
  readonly fill: Fill;
  /** Settles when the blob is in its place, when the fill has failed, or when no reader is left. */
  readonly done: Promise<void>;
  readonly #options: RunningFillOptions;
  readonly #reads: FileReads;
  #handles = 0;
  #isStopping = false;
  #isOver = false;
  #isClosed = false;
  /** Runs while there is no reader. */
  #lingering: NodeJS.Timeout | undefined;
  readonly #releasePath: () => boolean;

  /** @param unpin called when the fill is over */
  constructor(options: RunningFillOptions, unpin: () => void) {
    this.fill = options.fill;
    this.#options = options;
    const { file, memory } = options;
    this.#reads = new FileReads(memory, (buffer, position) => file.fill(buffer, position));
    this.#releasePath = options.room.holdPath(options.file.path);
    const traceSpan = (options.tracer ?? NO_TRACER).begin('fill', 'internal');
    traceSpan.set({ 'spandrel.digest': digestOfKey(options.key), 'spandrel.bytes': options.sizeBytes });
    this.done = traceSpan.run(() => this.#run(unpin, traceSpan));
    this.done.catch(() => undefined);
  }

  /** The fill is ending and cannot be joined. */
  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** The fill waits for readers. */
  get isIdle(): boolean {
    return this.#lingering !== undefined;
  }

  /** Adds a reader. @throws SpandrelError STORE_FULL if the blob must become complete and there is no room */
  async join(mustComplete: boolean): Promise<BlobHandle> {
    const { key, sizeBytes, fill, file, room } = this.#options;
    const unpin = room.budget.pin(key);
    this.#handles++;
    this.#endLingering();
    const handle = OpenBlob.filling({
      digest: digestOfKey(key),
      sizeBytes,
      file,
      fill,
      done: this.done,
      reads: this.#reads,
      onClose: () => {
        this.#handles--;
        unpin();
        return this.afterUse();
      },
    });
    if (!mustComplete || fill.mustComplete) return handle;
    await using joining = new AsyncDisposableStack();
    joining.use(handle);
    const whole = { sizeBytes, heldBytes: sizeBytes, partialPath: file.path };
    // Of a fill that ends meanwhile nothing may be left that no file belongs to.
    const release = await room.take(key, (before) => (before?.partialPath === file.path ? whole : undefined));
    release();
    if (!this.#isOver) fill.completeToo();
    joining.move();
    return handle;
  }

  /** Stops the fill. Arrived bytes stay. */
  stop(reason?: Error): void {
    this.#endLingering();
    this.#isStopping = true;
    this.#options.fill.stop(reason);
  }

  /** Without readers, stops a fill that need not complete, and closes one that is over. */
  async afterUse(): Promise<void> {
    const { key, fill, file, room, logger } = this.#options;
    if (this.#handles > 0) return;
    if (!this.#isOver) {
      if (fill.mustComplete || this.#isStopping || this.isIdle) return;
      if (fill.pause()) this.#lingering = setTimeout(() => this.stop(), LINGER_MS).unref();
      else this.stop();
      return;
    }
    if (this.#isClosed) return;
    this.#isClosed = true;
    try {
      await file.close();
    } catch (error) {
      logger.warn({ blob: digestOfKey(key), err: error }, 'a file of the store cannot be closed');
    }
    // The partial name, if the file has another one and no other fill has resumed it.
    const isPartial = room.budget.get(key)?.partialPath === file.path;
    if (this.#releasePath() && !isPartial) await room.discardPartial(file.path);
  }

  #endLingering(): void {
    clearTimeout(this.#lingering);
    this.#lingering = undefined;
  }

  async #run(unpin: () => void, span: TraceSpan): Promise<void> {
    const { key, repositoryKey, fill, file, sizeBytes, room, events, onComplete, onOver } = this.#options;
    let outcome: TierOutcome = 'failed';
    try {
      const isWhole = await fill.run();
      const partialPath = isWhole ? undefined : file.path;
      const blob = { sizeBytes, heldBytes: fill.heldBytes, partialPath };
      if (isWhole) await room.inTurn(digestOfKey(key), () => this.#promote(blob));
      else room.budget.set(key, blob);
      if (!isWhole && fill.isWithheld) await room.remove(key);
      if (isWhole) onComplete(blob);
      // A reader that gets the whole blob must find it in the store even after a crash.
      if (isWhole) fill.complete();
      outcome = isWhole ? 'complete' : 'stopped';
      events.fillEnded(outcome, span);
    } catch (error) {
      // Other errors come from the file system, or end everything.
      const failure =
        isSpandrelError(error) || !(error instanceof Error)
          ? (error as Error)
          : storeFault(error, 'keep a blob');
      this.#isStopping = true;
      const code = errorCodeOf(failure);
      if (code === 'BLOB_CORRUPT') outcome = 'wrong';
      const ending = { repositoryKey, outcome: outcomeOf(failure), code, failure };
      events.fillFailed(digestOfKey(key), ending, span);
      // Update the store before readers get the error.
      await this.#keepWhatIsRight(failure).finally(() => fill.fail(failure));
      throw failure;
    } finally {
      this.#isOver = true;
      this.#endLingering();
      span.end();
      unpin();
      room.updateMetrics();
      onOver(outcome);
      await this.afterUse();
    }
  }

  /** Keeps the file for the next fill. */
  async #keepWhatIsRight(failure: Error): Promise<void> {
    const { key, fill, file, sizeBytes, room } = this.#options;
    const code = errorCodeOf(failure);
    const { heldBytes } = fill;
    room.budget.set(key, { sizeBytes, heldBytes, partialPath: file.path });
    if (code === 'BLOB_CORRUPT' || heldBytes === 0 || fill.isWithheld) await room.remove(key);
    if (isSpandrelError(failure, 'STORE_FULL', 'STORE_FAILED', 'RESOURCE_EXHAUSTED'))
      await room.relieve(failure, sizeBytes);
  }

  /** Links the file into the complete blobs. The partial name goes when it has no readers. */
  async #promote(blob: StoredBlob): Promise<void> {
    const { key, file, layout, room } = this.#options;
    const digest = digestOfKey(key);
    const path = layout.blobPath(digest);
    const there = room.budget.get(digest);
    const isThere = key !== digest && there !== undefined && there.partialPath === undefined;
    try {
      if (isThere) {
        // Another upstream has completed the blob meanwhile.
        await rm(mapPathOf(file.path), { force: true });
        room.budget.promote(key, blob);
        return;
      }
      await file.sync();
      await mkdir(dirname(path), { recursive: true });
      await room.removeFile(path);
      await link(file.path, path);
      await syncFolderOf(path);
      await rm(mapPathOf(file.path), { force: true });
      room.budget.promote(key, blob);
    } catch (error) {
      // A file among the complete blobs that is not in the budget would never be removed.
      if (!isThere) await room.discardBlob(digest);
      throw storeFault(error, 'keep a blob');
    }
  }
}

/** Label of `fills_total`. */
function outcomeOf(failure: Error): 'corrupt' | 'store' | 'shutdown' | 'failed' {
  if (isSpandrelError(failure, 'BLOB_CORRUPT')) return 'corrupt';
  if (isSpandrelError(failure, 'STORE_FULL', 'STORE_FAILED')) return 'store';
  return isSpandrelError(failure, 'SHUTTING_DOWN') ? 'shutdown' : 'failed';
}
