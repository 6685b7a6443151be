import type { BlobHandle } from '../blobs/reads/blob-handle.ts';
import type { BlobStore } from '../blobs/blob-store.ts';
import { readBlobRange } from '../blobs/reads/read-blob-range.ts';
import { errorCodeOf, isSpandrelError } from '../core/errors.ts';
import { detectCompression, MAGIC_BYTES } from '../core/layer-compression.ts';
import { waitFor } from '../core/wait-for.ts';
import type { EngineName } from '../inflate/engine.ts';
import type { WorkerPool } from '../threads/worker-pool.ts';
import type { Events } from '../telemetry/events.ts';
import { NO_TRACER, type Tracer, type TraceSpan } from '../telemetry/tracer.ts';
import type { BuildSettings } from '../build/build-settings.ts';
import { type BuildingIndex, startLayerBuild } from '../build/building-index.ts';
import type { LayerIndex } from '../index/layer-index.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import type { LayerLimits } from '../build/build-layer.ts';
import type { LayerSummary } from '../index/layer-summary.ts';
import type { BuildForecast } from './build-forecast.ts';
import type { LayerIndexFiles } from './layer-index-files.ts';
import type { Layer } from './layer.ts';
import type { TarZtocFiles } from './tar-ztoc-files.ts';
import type { Replicas } from '../replicas/replicas.ts';
import type * as layerTasks from '../build/layer-worker.ts';
import { provenFault } from './proven-fault.ts';

export interface IndexBuildDeps {
  readonly blobs: BlobStore;
  readonly files: LayerIndexFiles;
  readonly tarFiles: TarZtocFiles;
  readonly pool: WorkerPool<typeof layerTasks>;
  readonly engine: EngineName;
  readonly spanBytes: number;
  readonly readSpanBytes: number;
  readonly limits: LayerLimits;
  /** Learns how long fills and builds take. */
  readonly forecast: BuildForecast;
  /** `undefined` if no other replica may build the index. */
  readonly replicas?: Pick<Replicas, 'builds' | 'comesFromPeer'> | undefined;
  readonly events: Events;
  readonly tracer?: Tracer;
}

/** Summary of a built index, and whether another replica had shared the same one. */
type BuiltSummary = LayerSummary & { readonly isConfirmed: boolean };

/** One build of the index of a layer, from reading its first bytes until the index is stored. */
export class IndexBuild {
  /**
   * The index, once it and its zTOC are stored. Rejects with errors of fills, and with LAYER_* for a faulty
   * layer.
   */
  readonly published: Promise<LayerIndex>;
  readonly #deps: IndexBuildDeps;
  readonly #layer: Layer;
  readonly #signal: AbortSignal;
  readonly #begun = Promise.withResolvers<LayerIndexView>();
  #view = this.#begun.promise;
  #building: BuildingIndex | undefined;
  readonly #hurry = new AbortController();

  /** @param signal ends the build */
  constructor(deps: IndexBuildDeps, layer: Layer, signal: AbortSignal) {
    this.#deps = deps;
    this.#layer = layer;
    this.#signal = signal;
    const traceSpan = (deps.tracer ?? NO_TRACER).begin('build', 'internal');
    traceSpan.set({ 'spandrel.digest': layer.digest });
    this.published = traceSpan.run(() => this.#run(traceSpan));
    // Callers that wait see the failure; if none does, it must not count as an unhandled rejection.
    this.published.catch((error: unknown) => this.#begun.reject(error));
    this.#begun.promise.catch(() => undefined);
  }

  /** False once its bytes are known to be another blob: the build is about to fail. */
  get isSound(): boolean {
    return this.#building?.isSound !== false;
  }

  /**
   * Resolves when the index is being built, here or by another replica that shares it.
   * @throws SpandrelError as `published`, if the build cannot start
   */
  async started(): Promise<void> {
    await this.#begun.promise;
  }

  /**
   * The index to read with during the build, which another replica could not give.
   * @throws SpandrelError as {@link started}
   */
  view(signal?: AbortSignal): Promise<LayerIndexView> {
    this.#hurry.abort();
    return waitFor(this.#view, signal);
  }

  async #run(traceSpan: TraceSpan): Promise<LayerIndex> {
    using _held = this.#deps.events.hold('build');
    try {
      this.#signal.throwIfAborted();
      return await this.#obtain(() => this.#build(traceSpan));
    } catch (error) {
      traceSpan.fail(errorCodeOf(error));
      throw error;
    } finally {
      traceSpan.end();
    }
  }

  /** The index that another replica builds, else that of `build`. */
  async #obtain(build: () => Promise<LayerIndex>): Promise<LayerIndex> {
    const { replicas, files } = this.#deps;
    if (replicas === undefined) return build();
    const { digest, source, confirm } = this.#layer;
    const { upstream } = source;
    const find = async (): Promise<LayerIndex | undefined> => {
      const found = await files.loadShared(digest);
      if (found !== undefined) await confirm?.(this.#signal);
      return found;
    };
    const index = await replicas.builds.run({
      name: files.sharedKey(digest),
      isLate: upstream !== undefined && replicas.comesFromPeer(upstream, digest),
      find,
      build,
      hurry: this.#hurry.signal,
      signal: this.#signal,
    });
    this.#begun.resolve(index);
    return index;
  }

  async #build(traceSpan: TraceSpan): Promise<LayerIndex> {
    await using handle = await this.#openVerified();
    return await this.#buildFrom(handle, traceSpan);
  }

  /** Verifies a stored blob first: the result is kept and shared. */
  async #openVerified(): Promise<BlobHandle> {
    return (await this.#openIfRight()) ?? this.#open();
  }

  async #openIfRight(): Promise<BlobHandle | undefined> {
    await using opened = new AsyncDisposableStack();
    const handle = opened.use(await this.#open());
    if (handle.source === 'disk') {
      await this.#layer.confirm?.(this.#signal);
      const verifying = this.#deps.blobs.verify(this.#layer.digest);
      if (!(await waitFor(verifying, this.#signal))) return undefined;
    }
    opened.move();
    return handle;
  }

  #open(): Promise<BlobHandle> {
    const { digest, source, claimedBytes } = this.#layer;
    const options = { claimedBytes, complete: true, signal: this.#signal };
    return this.#deps.blobs.openBlob(digest, source, options);
  }

  async #buildFrom(handle: BlobHandle, span: TraceSpan): Promise<LayerIndex> {
    const head = { start: 0, end: Math.min(MAGIC_BYTES, handle.sizeBytes) };
    const compression = detectCompression(await readBlobRange(handle, head, this.#signal));
    const started = performance.now();
    const { files } = this.#deps;
    const paths = await files.newPaths(this.#layer.digest);
    await using unpublished = new AsyncDisposableStack();
    // Has no effect after a rename.
    unpublished.defer(() => files.drop(paths.indexPath));
    const tarSpanBytes = await this.#layer.tarSpanBytes?.();
    const building = this.#begin(handle, { compression, tarSpanBytes, ...paths });
    const completed = await this.#explainFailure(building.completed);
    const { index, isConfirmed } = await files.publish(completed);
    if (completed.tar !== undefined) await this.#deps.tarFiles.tryKeep(this.#layer.digest, completed.tar);
    this.#report({ ...index.summary, isConfirmed }, performance.now() - started, span);
    return index;
  }

  #begin(
    handle: BlobHandle,
    options: Pick<BuildSettings, 'compression' | 'tarSpanBytes' | 'indexPath'> & {
      readonly publishedPath: string;
    },
  ): BuildingIndex {
    const { path, growth, sizeBytes: layerBytes } = handle;
    const { digest: layerDigest, source } = this.#layer;
    const { blobs, pool, engine, spanBytes, readSpanBytes, limits } = this.#deps;
    const building = startLayerBuild({
      ...options,
      path,
      growth,
      layerDigest,
      layerBytes,
      engine,
      spanBytes,
      readSpanBytes,
      limits,
      pool,
      signal: this.#signal,
      blob: handle,
      onDamage: () => blobs.verify(layerDigest),
      fairnessKey: source.repositoryKey,
    });
    this.#building = building;
    this.#begun.resolve(building);
    this.#view = Promise.resolve(building);
    return building;
  }

  async #explainFailure<T>(completed: Promise<T>): Promise<T> {
    try {
      return await completed;
    } catch (error) {
      if (isSpandrelError(error, 'STORE_FULL')) this.#deps.files.noteWriteFailure(error);
      throw provenFault(error);
    }
  }

  #report(summary: BuiltSummary, tookMs: number, span: TraceSpan): void {
    const { engine, events, forecast } = this.#deps;
    const { layerBytes, compression } = summary;
    const engines = { gzip: engine, zstd: 'zstd', none: undefined } as const;
    events.indexBuilt(
      {
        layer: summary.layerDigest,
        outcome: outcomeOf(summary),
        reason: summary.reason?.code,
        spans: summary.spanCount,
        files: summary.fileCount,
        uncompressedBytes: summary.uncompressedBytes,
        engine: engines[compression],
        seconds: tookMs / 1000,
        isConfirmed: summary.isConfirmed,
      },
      span,
    );
    forecast.record(layerBytes, tookMs);
  }
}

/** Label of `index_builds_total`. */
function outcomeOf({ ztoc }: LayerSummary): 'indexed' | 'readable' {
  return ztoc === undefined ? 'readable' : 'indexed';
}
