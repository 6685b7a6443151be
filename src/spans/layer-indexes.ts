import type { BlobHandle } from '../blobs/blob-handle.ts';
import type { BlobStore } from '../blobs/blob-store.ts';
import { readBlobRange } from '../blobs/read-blob-range.ts';
import { BoundedMap } from '../cache/bounded-map.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import type { Digest } from '../core/digest.ts';
import { ERRORS, type ErrorCode, errorCodeOf, isSpandrelError, SpandrelError } from '../core/errors.ts';
import { detectCompression, MAGIC_BYTES } from '../core/layer-compression.ts';
import { waitFor } from '../core/wait-for.ts';
import { defaultEngine } from '../inflate/default-engine.ts';
import type { WorkerPool } from '../inflate/worker-pool.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { NO_TRACER, type Tracer, type TraceSpan } from '../telemetry/tracer.ts';
import { type BuildingIndex, type CompletedBuild, startLayerBuild } from '../ztoc/layer-build.ts';
import type { LayerIndex } from '../ztoc/layer-index.ts';
import type { BuildSettings } from '../ztoc/build-messages.ts';
import type { LayerIndexView } from '../ztoc/layer-index-view.ts';
import type { LayerSummary } from '../ztoc/layer-summary.ts';
import type { BuildForecast } from './build-forecast.ts';
import type { LayerIndexFiles } from './layer-index-files.ts';
import type { Layer, PushedZtoc } from './layer.ts';

export interface LayerIndexesDeps {
  readonly blobs: BlobStore;
  readonly files: LayerIndexFiles;
  readonly pool: WorkerPool;
  readonly spanBytes: number;
  readonly readSpanBytes: number;
  readonly limits: { readonly maxUncompressedBytes: number; readonly maxTocEntries: number };
  /** Bytes of open indexes kept in memory. */
  readonly memoryBytes: number;
  /** Told how long fills and builds take. */
  readonly forecast: BuildForecast;
  readonly metrics: Metrics;
  readonly tracer?: Tracer;
  readonly logger: Logger;
}

export type LayerIndexState =
  | { readonly kind: 'absent' | 'building' }
  | { readonly kind: 'complete'; readonly summary: LayerSummary }
  | { readonly kind: 'failed'; readonly code: ErrorCode };

interface Build {
  readonly view: LayerIndexView;
  /** The index once it and its zTOC are stored. */
  readonly published: Promise<LayerIndex>;
}

const MAX_REMEMBERED_FAILURES = 10_000;

/** Indexes of layers: found in memory, on disk or in the shared tier, else built, each once however many ask. */
export class LayerIndexes implements AsyncDisposable {
  readonly #deps: LayerIndexesDeps;
  readonly #open: BoundedMap<LayerIndex>;
  /** As many as the pool takes in its queue. */
  readonly #building = new Map<Digest, Build>();
  readonly #starts: SingleFlight<Build>;
  readonly #finds: SingleFlight<LayerIndex | undefined>;
  readonly #replacements: SingleFlight<LayerIndex>;
  readonly #failures = new BoundedMap<SpandrelError>({ maxEntries: MAX_REMEMBERED_FAILURES });
  readonly #stopping = new AbortController();

  constructor(deps: LayerIndexesDeps) {
    this.#deps = deps;
    this.#open = new BoundedMap({ maxBytes: deps.memoryBytes, sizeOf: (index) => index.memoryBytes });
    this.#starts = new SingleFlight('index', deps.metrics);
    this.#finds = new SingleFlight('index', deps.metrics);
    this.#replacements = new SingleFlight('index', deps.metrics);
  }

  async state(digest: Digest): Promise<LayerIndexState> {
    if (this.#building.has(digest)) return { kind: 'building' };
    const index = await this.#find(digest);
    if (index !== undefined) return { kind: 'complete', summary: index.summary };
    const failure = this.#failures.get(digest);
    return failure === undefined ? { kind: 'absent' } : { kind: 'failed', code: failure.code };
  }

  /**
   * An index to read with: complete, or live while it is being built. Starts the build, and the fill of the blob, if there is
   * none.
   * @throws SpandrelError LAYER_* for a layer that is known to be at fault; what fills throw
   */
  async open(layer: Layer, signal?: AbortSignal): Promise<LayerIndexView> {
    const found = await this.#find(layer.digest);
    return found ?? (await this.#build(layer, signal)).view;
  }

  /** The complete index, with its zTOC stored. @throws SpandrelError as `open`, and what the build throws */
  async ensure(layer: Layer, signal?: AbortSignal): Promise<LayerIndex> {
    const found = this.#building.has(layer.digest) ? undefined : await this.#find(layer.digest);
    return found ?? waitFor((await this.#build(layer, signal)).published, signal);
  }

  /**
   * The index in the place of one that has turned out to be damaged, which is dropped with its file and built again from the blob.
   * @throws SpandrelError as `ensure`
   */
  replace(layer: Layer, damaged: LayerIndexView): Promise<LayerIndex> {
    const { digest } = layer;
    return this.#replacements.run(digest, async () => {
      if (this.#open.get(digest) === damaged) {
        this.#deps.logger.warn({ layer: digest }, 'an index is damaged, it will be built again');
        this.#open.delete(digest);
        await this.#deps.files.discard(digest);
      }
      return this.ensure(layer);
    });
  }

  /** Start the build, unless it is done or under way, without waiting for it. A failure is logged and remembered. */
  startBuild(layer: Layer): void {
    this.open(layer).catch((error: unknown) => {
      if (!isSpandrelError(error))
        this.#deps.logger.error({ err: error, layer: layer.digest }, 'build could not start');
    });
  }

  async #find(digest: Digest): Promise<LayerIndex | undefined> {
    return this.#open.get(digest) ?? this.#finds.run(digest, () => this.#load(digest));
  }

  async #load(digest: Digest): Promise<LayerIndex | undefined> {
    const index = await this.#deps.files.load(digest);
    if (index !== undefined) this.#open.set(digest, index);
    return index;
  }

  async #build(layer: Layer, signal: AbortSignal | undefined): Promise<Build> {
    const running = this.#building.get(layer.digest);
    if (running !== undefined) return running;
    const failure = this.#failures.get(layer.digest);
    if (failure !== undefined && !ERRORS[failure.code].retryable) throw failure;
    return this.#starts.run(layer.digest, () => this.#start(layer), signal);
  }

  async #start(layer: Layer): Promise<Build> {
    this.#stopping.signal.throwIfAborted();
    const span = (this.#deps.tracer ?? NO_TRACER).begin('build', 'internal');
    span.set({ 'spandrel.digest': layer.digest });
    return span.run(() => this.#startTraced(layer, span));
  }

  async #startTraced(layer: Layer, span: TraceSpan): Promise<Build> {
    const { digest, source, sizeBytes } = layer;
    const handle = await this.#deps.blobs.openBlob(digest, source, { sizeBytes, complete: true });
    try {
      const head = { start: 0, end: Math.min(MAGIC_BYTES, handle.sizeBytes) };
      const compression = detectCompression(await readBlobRange(handle, head));
      const pushed = compression === 'zstd' ? undefined : await layer.findPushedZtoc?.();
      const indexPath = await this.#deps.files.prepare(digest);
      const building = this.#startBuild(layer, { handle, compression, indexPath, pushedZtoc: pushed?.bytes });
      const published = this.#publish(layer, handle, building, pushed, span);
      const build = { view: building, published };
      this.#building.set(digest, build);
      // Whoever waits sees the failure; it is remembered for the others.
      published.catch(() => undefined);
      return build;
    } catch (error) {
      await handle[Symbol.asyncDispose]();
      this.#rememberFailure(digest, error);
      span.fail(errorCodeOf(error));
      span.end();
      throw error;
    }
  }

  #startBuild(
    { digest, mediaType, source }: Layer,
    build: Pick<BuildSettings, 'compression' | 'indexPath' | 'pushedZtoc'> & { handle: BlobHandle },
  ): BuildingIndex {
    const { handle, ...rest } = build;
    const { pool, spanBytes, readSpanBytes, limits } = this.#deps;
    const { path, growth, sizeBytes: layerBytes } = handle;
    const { signal } = this.#stopping;
    const layer = { path, growth, layerDigest: digest, layerBytes, mediaType };
    return startLayerBuild({
      ...rest,
      ...layer,
      spanBytes,
      readSpanBytes,
      limits,
      pool,
      signal,
      line: source.origin,
    });
  }

  /** The index, and the zTOC that belongs to it if there is one to publish. */
  async #complete(
    layer: Layer,
    handle: BlobHandle,
    building: BuildingIndex,
    pushed: PushedZtoc | undefined,
  ): Promise<CompletedBuild> {
    const completed = await this.#explainFailure(building.completed, handle);
    if (pushed === undefined) return completed;
    const { refused, index } = completed;
    if (refused === undefined) return { index, ztoc: Uint8Array.from(pushed.bytes) };
    await pushed.refuse(refused);
    if (index.summary.spanBytes === this.#deps.spanBytes) return completed;
    // The index is right, but it has the span size of the other one; the layer's bytes are here, so a second pass is cheap.
    await this.#deps.files.remove(layer.digest);
    const indexPath = await this.#deps.files.prepare(layer.digest);
    const own = this.#startBuild(layer, { handle, compression: index.compression, indexPath });
    this.#building.set(layer.digest, { view: own, published: own.finished() });
    return own.completed;
  }

  async #publish(
    layer: Layer,
    handle: BlobHandle,
    building: BuildingIndex,
    pushed: PushedZtoc | undefined,
    span: TraceSpan,
  ): Promise<LayerIndex> {
    const { digest } = layer;
    const started = performance.now();
    try {
      const { index, ztoc } = await this.#complete(layer, handle, building, pushed);
      await this.#deps.files.publish(index.summary, ztoc);
      this.#open.set(digest, index);
      this.#failures.delete(digest);
      const outcome = outcomeOf(index.summary);
      this.#deps.metrics.indexBuilds.inc({ outcome });
      const { compression, uncompressedBytes, spanCount, fileCount } = index.summary;
      span.set({
        'spandrel.outcome': outcome,
        'spandrel.uncompressed_bytes': uncompressedBytes,
        'spandrel.spans': spanCount,
        'spandrel.files': fileCount,
      });
      if (compression !== 'none')
        this.#deps.metrics.inflateBytes.inc(
          { engine: compression === 'gzip' ? defaultEngine.name : 'zstd' },
          uncompressedBytes,
        );
      const tookMs = performance.now() - started;
      this.#deps.metrics.indexBuildDuration.observe(tookMs / 1000);
      this.#deps.forecast.record(index.summary.layerBytes, tookMs);
      this.#deps.logger.info(
        {
          layer: digest,
          outcome,
          reason: index.summary.reason?.code,
          spans: spanCount,
          files: fileCount,
        },
        'layer indexed',
      );
      return index;
    } catch (error) {
      this.#rememberFailure(digest, error);
      span.fail(errorCodeOf(error));
      throw error;
    } finally {
      span.end();
      this.#building.delete(digest);
      await handle[Symbol.asyncDispose]();
    }
  }

  /** A layer is at fault only if its blob is what its digest says; else the fill knows what went wrong. */
  async #explainFailure<T>(completed: Promise<T>, handle: BlobHandle): Promise<T> {
    try {
      return await completed;
    } catch (error) {
      await handle.completed();
      throw error;
    }
  }

  #rememberFailure(digest: Digest, error: unknown): void {
    const failure = isSpandrelError(error)
      ? error
      : new SpandrelError('INTERNAL', 'the index could not be built', { cause: error });
    if (failure.code === 'SHUTTING_DOWN') return;
    this.#failures.set(digest, failure);
    this.#deps.metrics.indexBuilds.inc({ outcome: 'failed' });
    this.#deps.logger.warn({ layer: digest, code: failure.code, err: failure.cause }, failure.message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.allSettled(Array.from(this.#building.values(), ({ published }) => published));
  }
}

/** Label of `index_builds_total`. */
function outcomeOf({ ztoc, isPushed }: LayerSummary): 'indexed' | 'adopted' | 'readable' {
  if (ztoc === undefined) return 'readable';
  return isPushed === true ? 'adopted' : 'indexed';
}
