import type { BlobStore } from '../blobs/blob-store.ts';
import type { LayerLimits } from '../build/build-layer.ts';
import type * as layerTasks from '../build/layer-worker.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import type { EngineName } from '../inflate/engine.ts';
import type { LayerIndex } from '../index/layer-index.ts';
import type { LayerSummary } from '../index/layer-summary.ts';
import type { Replicas } from '../replicas/replicas.ts';
import type { Events } from '../telemetry/events.ts';
import type { WorkerPool } from '../threads/worker-pool.ts';
import type { AuthorizedLayer } from './layer.ts';
import type { LayerIndexes } from './layer-indexes.ts';
import type { TarZtoc, TarZtocFiles } from './tar-ztoc-files.ts';
import { ZtocFlights } from './ztoc-flights.ts';

export interface TarZtocsDeps {
  readonly files: TarZtocFiles;
  readonly indexes: LayerIndexes;
  readonly blobs: BlobStore;
  readonly pool: WorkerPool<typeof layerTasks>;
  readonly engine: EngineName;
  readonly limits: LayerLimits;
  readonly replicas?: Pick<Replicas, 'builds'> | undefined;
  readonly events: Events;
}

/** A layer whose tar can be served: it decompresses to its end. */
export type InflatableSummary = LayerSummary & Required<Pick<LayerSummary, 'diffId'>>;

/** True if the layer decompresses to its end. */
export function isInflatable(summary: LayerSummary): summary is InflatableSummary {
  return summary.diffId !== undefined;
}

/**
 * The zTOCs over the tars of layers. The build of an index makes one in the same pass if its repository wants
 * it. If it did not, or the zTOC is lost, the layer is decompressed once more.
 */
export class TarZtocs implements AsyncDisposable {
  readonly #deps: TarZtocsDeps;
  readonly #flights: ZtocFlights;

  constructor(deps: TarZtocsDeps) {
    this.#deps = deps;
    this.#flights = new ZtocFlights(deps);
  }

  /** A stored one. @throws SpandrelError STORE_FAILED, STORE_FULL */
  find({ layerDigest }: InflatableSummary, spanBytes: number): Promise<TarZtoc | undefined> {
    return this.#deps.files.find(layerDigest, spanBytes);
  }

  /**
   * A stored one, or one that is built now. `signal` ends the wait, not the work.
   * @param index the index of the layer
   * @throws SpandrelError BLOB_CORRUPT; errors of fills and builds
   */
  ensure(
    layer: AuthorizedLayer,
    index: LayerIndex,
    spanBytes: number,
    signal?: AbortSignal,
  ): Promise<TarZtoc> {
    return this.#flights.ensure(layer, spanBytes, () => this.#build(layer, index, spanBytes), signal);
  }

  async #build(layer: AuthorizedLayer, index: LayerIndex, spanBytes: number): Promise<TarZtoc> {
    const { blobs, pool, engine, limits, files, events } = this.#deps;
    const { digest, source } = layer;
    const { compression, layerBytes, summary } = index;
    const { signal } = this.#flights;
    using _held = events.hold('build');
    signal.throwIfAborted();
    await using handle = await blobs.openBlob(digest, source, {
      provenBytes: layerBytes,
      complete: true,
      signal,
    });
    const { path, growth } = handle;
    const input = { path, growth: growth.shared, layerBytes, compression, engine, limits, spanBytes };
    const run = { signal, fairnessKey: source.repositoryKey };
    const built = await pool.tasks.buildTar(input, run).catch(unlessCorrupt);
    if (compression !== 'none')
      events.spansInflated(compression === 'zstd' ? 'zstd' : engine, summary.uncompressedBytes);
    if (built !== undefined && built.diffId === summary.diffId) return files.keep(digest, built);
    // The file has changed after its digest was computed; the index is of the right bytes.
    await waitFor(blobs.suspect(digest), signal);
    throw new SpandrelError('BLOB_CORRUPT', 'the stored blob was damaged and is fetched again');
  }

  /** Waiting callers get SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flights[Symbol.asyncDispose]();
  }
}

function unlessCorrupt(error: unknown): undefined {
  if (!isSpandrelError(error, 'LAYER_CORRUPT')) throw error;
}
