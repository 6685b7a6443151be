import { link, mkdir, rm } from 'node:fs/promises';
import { dirname } from 'node:path';

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

/** Nodes that start lazily read a blob here and there: a fill is not opened and closed for each read. */
const LINGER_MS = 2000;

export interface RunningFillOptions {
  readonly key: StoreKey;
  readonly sizeBytes: ProvenBytes;
  readonly fill: Fill;
  readonly file: PartialFile;
  readonly layout: StoreLayout;
  readonly room: StoreRoom;
  readonly memory: ReadMemory;
  readonly events: Events;
  readonly tracer: Tracer | undefined;
  readonly logger: Logger;
  /** The blob is in its place. */
  readonly onComplete: (blob: StoredBlob) => void;
  /** The fill is over, in one step with what the store then says of the blob. */
  readonly onOver: () => void;
}

/** A fill, its file, who holds on to them, and what becomes of them in the end. */
export class RunningFill {
  readonly fill: Fill;
  /** Settles when the blob is in its place, has been given up, or nobody wants more of it. */
  readonly done: Promise<void>;
  readonly #options: RunningFillOptions;
  readonly #reads: FileReads;
  #handles = 0;
  #isStopping = false;
  #isOver = false;
  #isClosed = false;
  /** Runs while nobody reads. */
  #lingering: NodeJS.Timeout | undefined;
  readonly #letGoOfPath: () => boolean;

  /** @param unpin called when the fill is over */
  constructor(options: RunningFillOptions, unpin: () => void) {
    this.fill = options.fill;
    this.#options = options;
    const { file, memory } = options;
    this.#reads = new FileReads(memory, (buffer, position) => file.fill(buffer, position));
    this.#letGoOfPath = options.room.holdPath(options.file.path);
    const span = (options.tracer ?? NO_TRACER).begin('fill', 'internal');
    span.set({ 'spandrel.digest': digestOfKey(options.key), 'spandrel.bytes': options.sizeBytes });
    this.done = span.run(() => this.#run(unpin, span));
    this.done.catch(() => undefined);
  }

  /** It ends, and cannot be joined any more. */
  get isStopping(): boolean {
    return this.#isStopping;
  }

  /** It waits for readers, for a moment. */
  get isIdle(): boolean {
    return this.#lingering !== undefined;
  }

  /** A handle for one more reader. @throws SpandrelError STORE_FULL if the blob is to become whole, and there is no room */
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

  /** End it; what has arrived stays. */
  stop(reason?: Error): void {
    this.#endLingering();
    this.#isStopping = true;
    this.#options.fill.stop(reason);
  }

  /** If there is no reader: stop what is not to go on, close what is over. */
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
      // The name under which it arrived, if that is not its only one, and no other fill has gone on with it.
      const isPartial = room.budget.get(key)?.partialPath === file.path;
      if (this.#letGoOfPath() && !isPartial) await rm(file.path, { force: true });
    } catch (error) {
      // The blob is as right as it was before; the next start sweeps what is left.
      logger.warn({ blob: digestOfKey(key), err: error }, 'a file of the store cannot be closed or removed');
    }
  }

  #endLingering(): void {
    clearTimeout(this.#lingering);
    this.#lingering = undefined;
  }

  async #run(unpin: () => void, span: TraceSpan): Promise<void> {
    const { key, fill, file, sizeBytes, room, events, onComplete, onOver } = this.#options;
    try {
      const isWhole = await fill.run();
      const partialPath = isWhole ? undefined : file.path;
      const blob = { sizeBytes, heldBytes: fill.heldBytes, partialPath };
      if (isWhole) await room.inTurn(digestOfKey(key), () => this.#promote(blob));
      else room.budget.set(key, blob);
      if (!isWhole && fill.isWithheld) await room.remove(key);
      if (isWhole) onComplete(blob);
      // Whoever has got all of the blob finds it here after a crash too.
      if (isWhole) fill.complete();
      events.fillEnded(isWhole ? 'complete' : 'stopped', span);
    } catch (error) {
      // What is no error of ours came from the file system, or ends everything.
      const failure =
        isSpandrelError(error) || !(error instanceof Error)
          ? (error as Error)
          : storeFault(error, 'keep a blob');
      this.#isStopping = true;
      const code = errorCodeOf(failure);
      events.fillFailed(digestOfKey(key), { outcome: outcomeOf(failure), code, failure }, span);
      // Whoever hears of it finds the store as it will be.
      await this.#keepWhatIsRight(failure).finally(() => fill.fail(failure));
      throw failure;
    } finally {
      this.#isOver = true;
      this.#endLingering();
      span.end();
      unpin();
      room.updateMetrics();
      onOver();
      await this.afterUse();
    }
  }

  /** The next fill goes on with it. */
  async #keepWhatIsRight(failure: Error): Promise<void> {
    const { key, fill, file, sizeBytes, room } = this.#options;
    const code = errorCodeOf(failure);
    const { heldBytes } = fill;
    room.budget.set(key, { sizeBytes, heldBytes, partialPath: file.path });
    if (code === 'BLOB_CORRUPT' || heldBytes === 0 || fill.isWithheld) await room.remove(key);
    if (isSpandrelError(failure, 'STORE_FULL', 'STORE_FAILED')) await room.relieve(failure, sizeBytes);
  }

  /** Give the file a second name among the complete blobs. The first goes when nobody reads through it any more. */
  async #promote(blob: StoredBlob): Promise<void> {
    const { key, file, layout, room, logger } = this.#options;
    const digest = digestOfKey(key);
    const path = layout.blobPath(digest);
    const there = room.budget.get(digest);
    const isThere = key !== digest && there !== undefined && there.partialPath === undefined;
    try {
      if (isThere) {
        // Another upstream has sent it meanwhile.
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
      // A name among the complete blobs that no list has would be nobody's to remove.
      if (!isThere)
        await room.removeFile(path).catch((err: unknown) => {
          logger.warn({ blob: digest, err }, 'a file of the store cannot be removed');
        });
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
