import { mkdir, readFile } from 'node:fs/promises';
import { dirname } from 'node:path';

import type { BlobHandle } from '../blobs/blob-handle.ts';
import type { BlobStore } from '../blobs/blob-store.ts';
import type { DigestFiles } from '../blobs/digest-files.ts';
import { BoundedMap } from '../cache/bounded-map.ts';
import type { ByteCache } from '../cache/byte-cache.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import type { Digest } from '../core/digest.ts';
import { ERRORS, type ErrorCode, isSpandrelError, SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import type { WorkerPool } from '../inflate/worker-pool.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { startLayerBuild } from '../ztoc/layer-build.ts';
import { LayerIndex } from '../ztoc/layer-index.ts';
import type { LayerIndexView } from '../ztoc/layer-index-view.ts';
import type { LayerSummary } from '../ztoc/layer-summary.ts';
import { detectCompression } from './detect-compression.ts';
import type { Layer } from './layer.ts';
import type { ZtocStore } from './ztoc-store.ts';

export interface LayerIndexesDeps {
  readonly blobs: BlobStore;
  readonly ztocs: ZtocStore;
  /** Index files, keyed by the digest of the layer. */
  readonly files: DigestFiles;
  /** Where replicas share their indexes. */
  readonly shared: ByteCache | undefined;
  readonly pool: WorkerPool;
  readonly spanBytes: number;
  readonly limits: { readonly maxUncompressedBytes: number; readonly maxTocEntries: number };
  /** Bytes of open indexes kept in memory. */
  readonly memoryBytes: number;
  readonly metrics: Metrics;
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
  readonly #failures = new BoundedMap<SpandrelError>({ maxEntries: MAX_REMEMBERED_FAILURES });
  readonly #stopping = new AbortController();

  constructor(deps: LayerIndexesDeps) {
    this.#deps = deps;
    this.#open = new BoundedMap({ maxBytes: deps.memoryBytes, sizeOf: (index) => index.memoryBytes });
    this.#starts = new SingleFlight('index', deps.metrics);
    this.#finds = new SingleFlight('index', deps.metrics);
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
    const path = this.#deps.files.path(digest);
    const index =
      (await this.#openFile(path, digest)) ??
      ((await this.#fetchShared(digest)) ? await this.#openFile(path, digest) : undefined);
    if (index !== undefined) this.#open.set(digest, index);
    return index;
  }

  async #openFile(path: string, digest: Digest): Promise<LayerIndex | undefined> {
    try {
      const index = await LayerIndex.open(path);
      // An index made with another span size belongs to another configuration and is made anew.
      if (
        index.summary.layerDigest === digest &&
        index.summary.spanBytes === this.#deps.spanBytes &&
        (await this.#hasZtoc(index))
      )
        return index;
      this.#deps.logger.info({ layer: digest }, 'stored index does not fit, building it again');
    } catch (error) {
      if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
      if (!isSpandrelError(error, 'INDEX_MALFORMED')) throw error;
      this.#deps.logger.warn(
        { layer: digest, cause: error.message },
        'stored index is damaged, building it again',
      );
    }
    await this.#deps.files.remove(digest);
    return undefined;
  }

  async #hasZtoc({ summary: { ztoc } }: LayerIndex): Promise<boolean> {
    return ztoc === undefined || (await this.#deps.ztocs.has(ztoc.digest));
  }

  /** Take over what another replica has built: the index file and its zTOC. */
  async #fetchShared(digest: Digest): Promise<boolean> {
    const hit = await this.#deps.shared?.get(this.#sharedKey(digest));
    if (hit === undefined) return false;
    try {
      const { ztoc } = LayerIndex.fromBytes(hit.bytes).summary;
      if (ztoc !== undefined && !(await this.#deps.ztocs.has(ztoc.digest))) {
        const bytes = await this.#deps.shared?.get(`ztoc:${ztoc.digest}`);
        if (bytes === undefined || !(await this.#deps.ztocs.putCompressed(bytes.bytes, ztoc.digest)))
          return false;
      }
      await this.#deps.files.write(digest, hit.bytes);
      return true;
    } catch (error) {
      if (!isSpandrelError(error, 'INDEX_MALFORMED')) throw error;
      await this.#deps.shared?.delete(this.#sharedKey(digest));
      return false;
    }
  }

  #sharedKey(digest: Digest): string {
    return `index:${this.#deps.spanBytes}:${digest}`;
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
    const size = layer.sizeBytes === undefined ? {} : { sizeBytes: layer.sizeBytes };
    const handle = await this.#deps.blobs.openBlob(layer.digest, layer.source, size);
    try {
      const compression = await detectCompression(handle, layer.mediaType);
      const indexPath = this.#deps.files.path(layer.digest);
      await mkdir(dirname(indexPath), { recursive: true });
      const building = startLayerBuild({
        pool: this.#deps.pool,
        path: handle.path,
        growth: handle.growth,
        layerDigest: layer.digest,
        layerBytes: handle.sizeBytes,
        compression,
        mediaType: layer.mediaType,
        spanBytes: this.#deps.spanBytes,
        limits: this.#deps.limits,
        indexPath,
        signal: this.#stopping.signal,
      });
      const published = this.#publish(layer.digest, handle, building.completed);
      const build = { view: building, published };
      this.#building.set(layer.digest, build);
      // Whoever waits sees the failure; it is remembered for the others.
      published.catch(() => undefined);
      return build;
    } catch (error) {
      await handle[Symbol.asyncDispose]();
      this.#rememberFailure(layer.digest, error);
      throw error;
    }
  }

  async #publish(
    digest: Digest,
    handle: BlobHandle,
    completed: Promise<{ index: LayerIndex; ztoc?: Uint8Array }>,
  ): Promise<LayerIndex> {
    const started = performance.now();
    try {
      const { index, ztoc } = await this.#explainFailure(completed, handle);
      if (ztoc !== undefined && index.summary.ztoc !== undefined) {
        const compressed = await this.#deps.ztocs.put(ztoc, index.summary.ztoc.digest);
        await this.#deps.shared?.set(`ztoc:${index.summary.ztoc.digest}`, compressed);
      }
      if (this.#deps.shared !== undefined)
        await this.#deps.shared.set(this.#sharedKey(digest), await readFile(this.#deps.files.path(digest)));
      this.#open.set(digest, index);
      this.#failures.delete(digest);
      const outcome = index.summary.ztoc === undefined ? 'readable' : 'indexed';
      this.#deps.metrics.indexBuilds.inc({ outcome });
      const { compression, uncompressedBytes } = index.summary;
      if (compression !== 'none')
        this.#deps.metrics.inflateBytes.inc(
          { engine: compression === 'gzip' ? 'pako' : 'zstd' },
          uncompressedBytes,
        );
      this.#deps.metrics.indexBuildDuration.observe((performance.now() - started) / 1000);
      this.#deps.logger.info(
        {
          layer: digest,
          outcome,
          reason: index.summary.reason?.code,
          spans: index.summary.spanCount,
          files: index.summary.fileCount,
        },
        'layer indexed',
      );
      return index;
    } catch (error) {
      this.#rememberFailure(digest, error);
      throw error;
    } finally {
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
