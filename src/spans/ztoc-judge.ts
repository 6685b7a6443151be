import { readBlobRange } from '../blobs/reads/read-blob-range.ts';
import { PassingFaults, type RetryPauses } from '../cache/passing-faults.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { detectCompression, MAGIC_BYTES } from '../core/layer-compression.ts';
import { startLayerBuild } from '../build/building-index.ts';
import type { IndexBuildDeps } from '../layers/index-build.ts';
import type { LayerIndexes } from '../layers/layer-indexes.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Layer, PushedZtoc } from '../layers/layer.ts';

export interface ZtocJudgeDeps extends Pick<
  IndexBuildDeps,
  'blobs' | 'files' | 'pool' | 'engine' | 'spanBytes' | 'readSpanBytes' | 'limits' | 'events'
> {
  readonly indexes: LayerIndexes;
  readonly logger: Logger;
}

/** Each attempt reads the whole layer. */
const PAUSES: RetryPauses = { firstMs: 1_000, longestMs: 600_000 };

/**
 * Compares pushed zTOCs with their layers. The layer's index must exist, and is not changed. If the pushed
 * zTOC has another span size than the index, the layer is read once more, in the background.
 */
export class ZtocJudge implements AsyncDisposable {
  readonly #deps: ZtocJudgeDeps;
  /** Bounded by the queue of the pool. */
  readonly #running = new Map<string, Promise<void>>();
  readonly #failed = new PassingFaults<SpandrelError>(PAUSES);
  readonly #stopping = new AbortController();

  constructor(deps: ZtocJudgeDeps) {
    this.#deps = deps;
  }

  /**
   * Resolves when the zTOC has been judged or cannot be judged now. One attempt at a time, with pauses after
   * failed ones.
   * @param open reads the zTOC
   */
  async run(layer: Layer, ztoc: Digest, open: (signal: AbortSignal) => Promise<PushedZtoc>): Promise<void> {
    const key = `${layer.source.repositoryKey ?? ''} ${layer.digest} ${ztoc}`;
    const { signal } = this.#stopping;
    const running = this.#running.get(key);
    if (running !== undefined) return running;
    if (signal.aborted || this.#failed.current(key) !== undefined) return;
    const judging = this.#judge(layer, open)
      .catch((error: unknown) => this.#noteFailure(key, error))
      .finally(() => this.#running.delete(key));
    this.#running.set(key, judging);
    await judging;
  }

  async #judge(layer: Layer, open: (signal: AbortSignal) => Promise<PushedZtoc>): Promise<void> {
    using _held = this.#deps.events.hold('build');
    const { signal } = this.#stopping;
    const pushed = await open(signal);
    const compared = await this.#compare(layer.digest, pushed);
    if (compared === 'other-spans') await this.#reread(layer, pushed);
    else await pushed.judge(compared.problem);
  }

  /** Compares with the zTOC of the index, if that has spans of the same size. */
  async #compare(
    layer: Digest,
    { bytes }: PushedZtoc,
  ): Promise<{ readonly problem: string | undefined } | 'other-spans'> {
    const { indexes, files, pool, limits } = this.#deps;
    const { signal } = this.#stopping;
    const index = await indexes.find(layer, signal);
    if (index === undefined) return 'other-spans';
    const { ztoc, reason } = index.summary;
    if (ztoc === undefined) return { problem: reason?.message ?? 'SOCI cannot index the layer' };
    const own = await files.readZtoc(index.summary);
    return own === undefined
      ? 'other-spans'
      : pool.tasks.compareZtocs({ pushed: bytes, own, limits }, { signal });
  }

  async #reread(layer: Layer, pushed: PushedZtoc): Promise<void> {
    const { blobs, files, pool, engine, spanBytes, readSpanBytes, limits } = this.#deps;
    const { digest: layerDigest, source, claimedBytes } = layer;
    const { signal } = this.#stopping;
    await using handle = await blobs.openBlob(layerDigest, source, { claimedBytes, complete: true, signal });
    const { path, growth, sizeBytes: layerBytes } = handle;
    const head = { start: 0, end: Math.min(MAGIC_BYTES, layerBytes) };
    const compression = detectCompression(await readBlobRange(handle, head, signal));
    const { indexPath } = await files.newPaths(layerDigest);
    await using unpublished = new AsyncDisposableStack();
    unpublished.defer(() => files.drop(indexPath));
    const building = startLayerBuild({
      path,
      layerDigest,
      layerBytes,
      compression,
      engine,
      spanBytes,
      readSpanBytes,
      limits,
      pushedZtoc: pushed.bytes,
      indexPath,
      growth,
      blob: handle,
      onDamage: () => blobs.verify(layerDigest),
      pool,
      signal,
      fairnessKey: source.repositoryKey,
    });
    const { refused } = await building.completed;
    await handle.completed(signal);
    await pushed.judge(refused);
  }

  #noteFailure(key: string, error: unknown): void {
    const { signal } = this.#stopping;
    if (signal.aborted) return;
    const failure = isSpandrelError(error)
      ? error
      : new SpandrelError('INTERNAL', 'a pushed zTOC could not be compared with its layer', { cause: error });
    this.#failed.note(key, failure);
    this.#deps.logger.warn({ err: failure }, 'a pushed zTOC could not be compared with its layer');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.all(this.#running.values());
  }
}
