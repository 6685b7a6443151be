import { startLayerBuild } from '../build/building-index.ts';
import type { LayerIndex } from '../index/layer-index.ts';
import type { IndexBuildDeps } from './index-build.ts';
import type { AuthorizedLayer } from './layer.ts';
import type { TarZtoc, TarZtocFiles } from './tar-ztoc-files.ts';
import { ZtocFlights } from './ztoc-flights.ts';

export interface FineZtocsDeps extends Pick<
  IndexBuildDeps,
  'blobs' | 'files' | 'pool' | 'engine' | 'readSpanBytes' | 'limits' | 'replicas' | 'events'
> {
  /** Of gzip layers. */
  readonly ztocFiles: TarZtocFiles;
}

/**
 * zTOCs of gzip layers with other spans than those of their indexes. Each is made by a build of its own, and
 * has the bytes that `soci` makes with this span size.
 */
export class FineZtocs implements AsyncDisposable {
  readonly #deps: FineZtocsDeps;
  readonly #flights: ZtocFlights;

  constructor(deps: FineZtocsDeps) {
    this.#deps = deps;
    const { ztocFiles: files, replicas, events } = deps;
    this.#flights = new ZtocFlights({ files, replicas, events });
  }

  /** A stored one. @throws SpandrelError STORE_FAILED, STORE_FULL */
  find(layer: Pick<AuthorizedLayer, 'digest'>, spanBytes: number): Promise<TarZtoc | undefined> {
    return this.#deps.ztocFiles.find(layer.digest, spanBytes);
  }

  /**
   * A stored one, or one that is built now. `signal` ends the wait, not the work.
   * @param index the index of the layer
   * @throws SpandrelError of fills and builds
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
    const { blobs, files, pool, engine, readSpanBytes, limits, events, ztocFiles } = this.#deps;
    const { digest: layerDigest, source } = layer;
    const { layerBytes, compression } = index;
    const { signal } = this.#flights;
    using _held = events.hold('build');
    signal.throwIfAborted();
    await using handle = await blobs.openBlob(layerDigest, source, {
      provenBytes: layerBytes,
      complete: true,
      signal,
    });
    const { path, growth } = handle;
    const { indexPath } = await files.newPaths(layerDigest);
    await using unpublished = new AsyncDisposableStack();
    unpublished.defer(() => files.drop(indexPath));
    const building = startLayerBuild({
      path,
      growth,
      layerDigest,
      layerBytes,
      compression,
      engine,
      spanBytes,
      readSpanBytes,
      limits,
      indexPath,
      pool,
      signal,
      blob: handle,
      onDamage: () => blobs.verify(layerDigest),
      fairnessKey: source.repositoryKey,
    });
    const { index: built, ztoc: bytes } = await building.completed;
    const { uncompressedBytes, ztoc, reason } = built.summary;
    events.spansInflated(engine, uncompressedBytes);
    return ztocFiles.keep(layerDigest, {
      spanBytes,
      ...(ztoc === undefined || bytes === undefined ? {} : { ztoc: { digest: ztoc.digest, bytes } }),
      ...(reason === undefined ? {} : { reason }),
    });
  }

  /** Waiting callers get SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flights[Symbol.asyncDispose]();
  }
}
