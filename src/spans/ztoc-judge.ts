import { readBlobRange } from '../blobs/read-blob-range.ts';
import { PassingFaults, type RetryPauses } from '../cache/passing-faults.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { detectCompression, MAGIC_BYTES } from '../core/layer-compression.ts';
import { waitFor } from '../core/wait-for.ts';
import { startLayerBuild } from '../ztoc/layer-build.ts';
import type { IndexBuildDeps } from './index-build.ts';
import type { Layer, PushedZtoc } from './layer.ts';

export type ZtocJudgeDeps = Pick<
  IndexBuildDeps,
  'blobs' | 'files' | 'pool' | 'spanBytes' | 'readSpanBytes' | 'limits' | 'metrics' | 'logger'
>;

/** The whole layer passes through for each attempt. */
const PAUSES: RetryPauses = { firstMs: 1_000, longestMs: 600_000 };

/**
 * Finds out whether a zTOC is right that was pushed when its layer had an index already, or that another repository has pushed. That index
 * stays as it is; the layer passes through once more, in the background.
 */
export class ZtocJudge implements AsyncDisposable {
  readonly #deps: ZtocJudgeDeps;
  /** As many as the pool takes in its queue. */
  readonly #running = new Map<string, Promise<void>>();
  readonly #failed = new PassingFaults<SpandrelError>(PAUSES);
  readonly #stopping = new AbortController();

  constructor(deps: ZtocJudgeDeps) {
    this.#deps = deps;
  }

  /** Begin, unless it is under way or has just failed. Nobody waits for it. @param open reads the zTOC, which is then confirmed or refused */
  start(layer: Layer, ztoc: Digest, open: (signal: AbortSignal) => Promise<PushedZtoc>): void {
    const key = `${layer.digest} ${ztoc}`;
    const { signal } = this.#stopping;
    if (signal.aborted || this.#running.has(key) || this.#failed.current(key) !== undefined) return;
    const judging = this.#judge(layer, open)
      .catch((error: unknown) => this.#noteFailure(key, error))
      .finally(() => this.#running.delete(key));
    this.#running.set(key, judging);
  }

  async #judge(layer: Layer, open: (signal: AbortSignal) => Promise<PushedZtoc>): Promise<void> {
    using _held = this.#deps.metrics.hold('build');
    const { blobs, files, pool, spanBytes, readSpanBytes, limits } = this.#deps;
    const { digest: layerDigest, source, claimedBytes } = layer;
    const { signal } = this.#stopping;
    const pushed = await open(signal);
    await using handle = await blobs.openBlob(layerDigest, source, { claimedBytes, complete: true, signal });
    const { path, growth, sizeBytes: layerBytes } = handle;
    const head = { start: 0, end: Math.min(MAGIC_BYTES, layerBytes) };
    const compression = detectCompression(await readBlobRange(handle, head, signal));
    const { indexPath } = await files.newPaths(layerDigest);
    await using unpublished = new AsyncDisposableStack();
    unpublished.defer(() => files.drop(indexPath));
    const settings = { path, layerDigest, layerBytes, compression, spanBytes, readSpanBytes, limits };
    const building = startLayerBuild({
      ...settings,
      pushedZtoc: pushed.bytes,
      indexPath,
      growth,
      pool,
      signal,
      line: source.origin,
    });
    const { refused } = await building.completed;
    if (refused === undefined) return pushed.confirm();
    await handle.completed(signal);
    if (await waitFor(blobs.verify(layerDigest), signal)) return pushed.refuse(refused);
    throw new SpandrelError('BLOB_CORRUPT', 'the stored blob has gone bad, and is fetched anew');
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
