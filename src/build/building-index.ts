import { randomUUID } from 'node:crypto';
import { MessageChannel, type MessagePort } from 'node:worker_threads';

import type { BlobHandle } from '../blobs/reads/blob-handle.ts';
import type { Growth } from '../blobs/files/growth.ts';
import type { ByteRange } from '../core/byte-range.ts';
import type { LayerCompression } from '../core/media-types.ts';
import type { ProvenBytes } from '../core/proven-bytes.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import type { WorkerPool } from '../threads/worker-pool.ts';
import type { BuiltTarZtoc } from './tar/build-tar-ztoc.ts';
import type { BuildInput, BuildProgress, BuildRequest, BuildSettings } from './build-settings.ts';
import { LayerIndex } from '../index/layer-index.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import { cleanPath, type RawText } from '../tar/raw-text.ts';
import { ReadSpanTable } from '../index/read-span-table.ts';
import type { ReadSpan, Span } from '../ztoc/span.ts';
import { SpanTable } from '../index/span-table.ts';
import type { StoredWindow } from '../index/stored-window.ts';
import type { TocEntry } from '../tar/toc-entry.ts';
import type * as layerTasks from './layer-worker.ts';

export interface LayerBuildOptions extends BuildSettings {
  /** Threads whose entry is `layer-worker.ts`. */
  readonly pool: WorkerPool<typeof layerTasks>;
  readonly growth: Growth;
  /** Ends the build. */
  readonly signal?: AbortSignal;
  /** The layer's file. It may turn out not to be the layer long after the build ran into that. */
  readonly blob?: Pick<BlobHandle, 'isWrong' | 'refutation' | 'completed'>;
  /** Called if the file has other bytes than the layer, although its digest was verified. */
  readonly onDamage?: () => Promise<unknown>;
  /** The name that the index file may get when it is complete. */
  readonly publishedPath?: string;
  /** As {@link RunOptions.fairnessKey}. */
  readonly fairnessKey?: string | undefined;
}

/** The index, and the zTOC if the layer has one to publish. */
export interface CompletedBuild {
  readonly index: LayerIndex;
  /** The index file, which belongs to the caller. */
  readonly indexPath: string;
  readonly ztoc?: Uint8Array<ArrayBuffer>;
  /** The zTOC over the tar, if it was wanted and could be made in the same pass. */
  readonly tar?: BuiltTarZtoc;
  /** What is wrong with the pushed zTOC. */
  readonly refused?: string;
}

/**
 * Resolves with the last entry at a path when the thread received the request, or else the first later one.
 */
interface WatchedPath extends PromiseWithResolvers<TocEntry | undefined> {
  /** Offset in the decompressed layer that the thread had passed when it was asked. */
  readonly behind: number;
}

/** Paths that a build watches at most; requests for more paths wait for its end. */
const MAX_WATCHED_PATHS = 1000;

/**
 * Starts to build the index of a layer in a worker thread. The thread reads the file while it grows; when the
 * file is complete, the index is written and synced, and belongs to the caller.
 */
export function startLayerBuild(options: LayerBuildOptions): BuildingIndex {
  return new BuildingIndex(options);
}

/**
 * The index of a layer during its build: spans and files are available as soon as the thread has passed them.
 */
export class BuildingIndex implements LayerIndexView {
  /** Rejects if the build fails. The files of the index are the caller's, also then. */
  readonly completed: Promise<CompletedBuild>;
  readonly #options: LayerBuildOptions;
  readonly #id = randomUUID();
  readonly #port: MessagePort;
  /** Withdraws the task from the queue. */
  readonly #unqueue = new AbortController();
  readonly #spans = new SpanTable();
  readonly #readSpans = new ReadSpanTable();
  readonly #watched = new Map<RawText, WatchedPath>();
  #isRunning = false;
  #index: LayerIndex | undefined;
  /** Resolves with the next span, or the end of the build. */
  #progress = Promise.withResolvers<void>();

  constructor(options: LayerBuildOptions) {
    this.#options = options;
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.on('message', (message: BuildProgress) => this.#takeProgress(message));
    this.completed = this.#run(port2);
    // Callers that wait see the failure; if none does, it must not count as an unhandled rejection.
    this.completed.catch(() => undefined);
  }

  get compression(): LayerCompression {
    return this.#options.compression;
  }

  get layerBytes(): ProvenBytes {
    return this.#options.layerBytes;
  }

  get unverifiedBuild(): string | undefined {
    return this.#index === undefined ? this.#id : undefined;
  }

  get isSound(): boolean {
    return this.#options.blob?.isWrong !== true;
  }

  assertSound(): void {
    if (this.isSound) return;
    throw this.#options.blob?.refutation ?? new SpandrelError('BLOB_CORRUPT', 'the file is not the layer');
  }

  async readSpans(range: ByteRange, signal?: AbortSignal): Promise<readonly ReadSpan[]> {
    const spans = this.compression === 'gzip' ? this.#readSpans : this.#spans;
    while (this.#index === undefined) {
      this.assertSound();
      const found = spans.within(range);
      if (found.length > 0) return found;
      await waitFor(this.#progress.promise, signal);
    }
    return this.#index.readSpans(range);
  }

  async span(id: number, signal?: AbortSignal): Promise<Span | undefined> {
    while (this.#index === undefined) {
      this.assertSound();
      const span = this.#spans.get(id);
      if (span !== undefined) return span;
      await waitFor(this.#progress.promise, signal);
    }
    return this.#index.span(id);
  }

  window(span: ReadSpan): StoredWindow {
    if (this.#index !== undefined) return this.#index.window(span);
    return { record: this.#readSpans.window(span.id), file: namesOf(this.#options) };
  }

  async findFile(path: RawText, signal?: AbortSignal): Promise<TocEntry | undefined> {
    if (this.#index !== undefined) return this.#index.findFile(path);
    this.assertSound();
    const cleaned = cleanPath(path);
    const watched = this.#watched.get(cleaned) ?? this.#watch(cleaned, 0);
    const early = watched === undefined ? undefined : await waitFor(watched.promise, signal);
    return early ?? (await this.finished(signal)).findFile(cleaned);
  }

  async findLinked(link: TocEntry, signal?: AbortSignal): Promise<TocEntry | undefined> {
    if (this.#index !== undefined) return this.#index.findLinked(link);
    this.assertSound();
    const path = cleanPath(link.linkname);
    const { uncompressedOffset: behind } = link;
    const watched = this.#watched.get(path) ?? this.#watch(path, behind);
    // An earlier request may have found an entry that later ones, still ahead of the link, replace.
    const isLast = watched !== undefined && watched.behind >= behind;
    const early = isLast ? await waitFor(watched.promise, signal) : undefined;
    return early !== undefined && early.uncompressedOffset < behind
      ? early
      : (await this.finished(signal)).findLinked(link);
  }

  async finished(signal?: AbortSignal): Promise<LayerIndex> {
    return (await waitFor(this.completed, signal)).index;
  }

  #watch(path: RawText, behind: number): WatchedPath | undefined {
    if (this.#watched.size >= MAX_WATCHED_PATHS) return undefined;
    const watched = { ...Promise.withResolvers<TocEntry | undefined>(), behind };
    watched.promise.catch(() => undefined);
    this.#watched.set(path, watched);
    this.#request({ kind: 'find', path });
    return watched;
  }

  #request(request: BuildRequest): void {
    this.#port.postMessage(request, []);
  }

  #takeProgress(message: BuildProgress): void {
    if (message.kind === 'started') {
      this.#isRunning = true;
    } else if (message.kind === 'file') {
      this.#watched.get(message.path)?.resolve(message.entry);
    } else {
      if (message.kind === 'span') this.#spans.add(message.span);
      else this.#readSpans.append(message.records);
      this.#endWaiting();
    }
  }

  #endWaiting(): void {
    const { resolve } = this.#progress;
    this.#progress = Promise.withResolvers();
    resolve();
  }

  async #run(port: MessagePort): Promise<CompletedBuild> {
    const { pool, growth, signal, fairnessKey } = this.#options;
    const stop = (): void => this.#stop();
    signal?.addEventListener('abort', stop, { once: true });
    try {
      signal?.throwIfAborted();
      const input: BuildInput = { ...settingsOf(this.#options), growth: growth.shared, port };
      const run = { transfer: [port], signal: this.#unqueue.signal, fairnessKey };
      const { ztoc, tar, refused } = await pool.tasks.buildLayer(input, run);
      const index = await LayerIndex.open(...namesOf(this.#options));
      this.#index = index;
      for (const watched of this.#watched.values()) watched.resolve(undefined);
      this.#endWaiting();
      return {
        index,
        indexPath: this.#options.indexPath,
        ...(ztoc === undefined ? {} : { ztoc }),
        ...(tar === undefined ? {} : { tar }),
        ...(refused === undefined ? {} : { refused }),
      };
    } catch (error) {
      // The reason of the stop says more than the error of the stopped thread.
      const reason: unknown = signal?.aborted ? signal.reason : await this.#explain(error);
      for (const watched of this.#watched.values()) watched.reject(reason);
      this.#progress.promise.catch(() => undefined);
      this.#progress.reject(reason);
      throw reason;
    } finally {
      signal?.removeEventListener('abort', stop);
      this.#port.close();
    }
  }

  /** If the fill fails, it knows what went wrong. Otherwise the file changed before the build read it. */
  async #explain(error: unknown): Promise<unknown> {
    const { blob, signal, onDamage } = this.#options;
    try {
      await blob?.completed(signal);
      if (isSpandrelError(error, 'BLOB_CORRUPT')) await onDamage?.();
      return error;
    } catch (failure) {
      return failure;
    }
  }

  /** Asks a running thread to stop, since killing it is expensive; withdraws a task that still waits. */
  #stop(): void {
    if (this.#isRunning) this.#request({ kind: 'abort' });
    else this.#unqueue.abort(this.#options.signal?.reason);
  }
}

/** The names of the index file: first `indexPath`, then `publishedPath`. */
function namesOf({ indexPath, publishedPath }: LayerBuildOptions): [string, ...string[]] {
  return publishedPath === undefined ? [indexPath] : [indexPath, publishedPath];
}

/** Picks the fields that can be sent to the thread; the options may have more. */
function settingsOf(options: BuildSettings): BuildSettings {
  const { path, layerDigest, layerBytes, compression, engine } = options;
  const { spanBytes, readSpanBytes, limits, pushedZtoc, tarSpanBytes, indexPath } = options;
  const layer = { path, layerDigest, layerBytes, compression, engine };
  return { ...layer, spanBytes, readSpanBytes, limits, pushedZtoc, tarSpanBytes, indexPath };
}
