import { SourceFault } from '../blobs/fills/source-fault.ts';
import { BoundedMap } from '../cache/bounded-map.ts';
import { PassingFaults, type RetryPauses } from '../cache/passing-faults.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import type { Digest } from '../core/digest.ts';
import { type ErrorCode, isSpandrelError, SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import { WorkQueue } from '../core/work/work-queue.ts';
import type { LayerIndex } from '../index/layer-index.ts';
import type { LayerIndexView } from '../index/layer-index-view.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { LayerSummary } from '../index/layer-summary.ts';
import { IndexBuild, type IndexBuildDeps } from './index-build.ts';
import { EvictableIndex } from './evictable-index.ts';
import type { AuthorizedLayer, Layer } from './layer.ts';
import { ProvenFault } from './proven-fault.ts';
import type { SharedFaults } from './shared-faults.ts';

export interface LayerIndexesDeps extends IndexBuildDeps {
  /** Bytes of open indexes that are kept in memory. */
  readonly memoryBytes: number;
  /** Faults that other replicas have proven. */
  readonly sharedFaults: SharedFaults;
  readonly logger: Logger;
}

export type LayerIndexState =
  | { readonly kind: 'absent' | 'building' }
  | { readonly kind: 'complete'; readonly summary: LayerSummary }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

/** A build that later requests can join. */
interface Build {
  /**
   * The upstream whose bytes it reads, if known. Until they are verified, only repositories of that upstream
   * join.
   */
  readonly upstream: string | undefined;
  /** The repository that it was started for. */
  readonly repositoryKey: string | undefined;
  readonly view: IndexBuild['view'];
  readonly started: IndexBuild['started'];
  readonly isSound: () => boolean;
  /** Settles together with what is remembered of the build. */
  readonly published: Promise<LayerIndex>;
}

/** Readers do not hold a larger index in memory. Usual layers have smaller ones. */
const MAX_HELD_BYTES = 256 * 2 ** 10;
/** Indexes that are read from disk at the same time: each is in memory as a whole. */
const MAX_LOADS = 4;
const MAX_WAITING_LOADS = 10_000;
const MAX_REMEMBERED_FAULTS = 10_000;
/** Builds that one request waits for. All but the last read bytes of other repositories. */
const MAX_TRIES = 4;
/** Failures of the proxy itself, after a whole pass over the layer. */
export const COSTLY_FAULTS: readonly ErrorCode[] = [
  'STORE_FULL',
  'WORKER_FAILED',
  'STORE_FAILED',
  'RESOURCE_EXHAUSTED',
  'INDEX_MALFORMED',
  'INTERNAL',
];
const COSTLY_PAUSES: RetryPauses = { firstMs: 1_000, longestMs: 60_000 };
/** How long a failure is shown. */
const SHOWN_PAUSES: RetryPauses = { firstMs: 60_000, longestMs: 60_000 };
/** The repository lacks or refuses the layer, or the proxy stops: not a state of an index. */
const REFUSALS: readonly ErrorCode[] = [
  'BLOB_UNKNOWN',
  'NAME_UNKNOWN',
  'UNAUTHORIZED',
  'UPSTREAM_CREDENTIALS_REFUSED',
  'DENIED',
  'SHUTTING_DOWN',
];

/**
 * Indexes of layers: found in memory, on disk or in the shared tier, else built, once for all concurrent
 * requests. During a build, requests for the layer join it instead of looking for a stored index.
 */
export class LayerIndexes implements AsyncDisposable {
  readonly #deps: LayerIndexesDeps;
  readonly #open: BoundedMap<LayerIndex>;
  /** Bounded by the queue of the pool. A layer has several builds only while several upstreams send it. */
  readonly #building = new Map<Digest, readonly Build[]>();
  readonly #lookups: SingleFlight<LayerIndex | undefined>;
  readonly #loads = new WorkQueue({ maxRunning: MAX_LOADS, maxWaiting: MAX_WAITING_LOADS });
  /** Faults of layers, in any repository. */
  readonly #faults = new BoundedMap<ProvenFault>({ maxEntries: MAX_REMEMBERED_FAULTS });
  /** Other failures, each of a build for one repository. */
  readonly #failures = new PassingFaults<SpandrelError>(SHOWN_PAUSES);
  /** Failures after which {@link startBuild} pauses. */
  readonly #costly = new PassingFaults<SpandrelError>(COSTLY_PAUSES);
  readonly #stopping = new AbortController();
  #sweeping: Promise<void> = Promise.resolve();

  constructor(deps: LayerIndexesDeps) {
    this.#deps = deps;
    this.#open = new BoundedMap({ maxBytes: deps.memoryBytes, sizeOf: (index) => index.memoryBytes });
    this.#lookups = new SingleFlight('index', deps.events);
  }

  /** Starts {@link LayerIndexFiles.sweep} in the background. */
  startSweep(found: { readonly indexes: readonly Digest[]; readonly ztocs: readonly Digest[] }): void {
    const { files, logger } = this.#deps;
    this.#sweeping = files.sweep(found, this.#stopping.signal).then(
      (ztocs) => {
        if (ztocs > 0) logger.info({ ztocs }, 'zTOCs without an index were removed');
      },
      (error: unknown) =>
        logger.warn({ err: error }, 'the store cannot be searched for zTOCs without an index'),
    );
  }

  /** A complete index, if there is one, without authorization; see also {@link state}. */
  find(digest: Digest, signal?: AbortSignal): Promise<LayerIndex | undefined> {
    return this.#find(digest, signal);
  }

  /** True if there is nothing to build: the index exists, or the layer is known to be faulty. */
  async has(digest: Digest): Promise<boolean> {
    return (await this.#find(digest)) !== undefined || this.#faults.get(digest) !== undefined;
  }

  /**
   * The state of a layer's index. Starts nothing.
   * @throws SpandrelError STORE_FAILED; the reason of the signal
   */
  async state(layer: AuthorizedLayer, signal?: AbortSignal): Promise<LayerIndexState> {
    const { digest } = layer;
    const index = await this.#findFor(layer, signal);
    if (index !== undefined) return { kind: 'complete', summary: index.summary };
    if (this.#buildOf(layer) !== undefined) return { kind: 'building' };
    const failure = this.#faults.get(digest) ?? this.#failures.current(sourceKey(layer));
    return failure === undefined
      ? { kind: 'absent' }
      : { kind: 'failed', code: failure.code, message: failure.message };
  }

  /**
   * An index to read with: a complete one, or one that is being built. Starts the build, and the fill of the
   * blob, if there is none.
   * @throws SpandrelError LAYER_* for a layer that is known to be faulty; errors of fills and builds
   */
  async open(layer: AuthorizedLayer, signal?: AbortSignal): Promise<LayerIndexView> {
    await this.#awaitUnsound(layer, signal);
    const found = await this.#findFor(layer, signal);
    if (found === undefined) return this.#useBuild(layer, (build) => build.view(signal), signal);
    if (found.memoryBytes <= MAX_HELD_BYTES) return found;
    return new EvictableIndex(found, (waiting) => this.#complete(layer, false, waiting));
  }

  /**
   * The complete index, with its zTOC stored.
   * @throws SpandrelError as {@link open}
   */
  async ensure(layer: AuthorizedLayer, signal?: AbortSignal): Promise<LayerIndex> {
    return this.#complete(layer, true, signal);
  }

  /** As {@link ensure}, for a layer that its repository may lack: the result is not returned. */
  async build(layer: Layer, signal?: AbortSignal): Promise<void> {
    await this.#complete(layer, true, signal);
  }

  /** @param needsZtoc false for readers of spans and files, which do without a lost one */
  async #complete(layer: Layer, needsZtoc: boolean, signal: AbortSignal | undefined): Promise<LayerIndex> {
    await this.#awaitUnsound(layer, signal);
    const found = await this.#findFor(layer, signal);
    if (found === undefined) return this.#useBuild(layer, ({ published }) => published, signal);
    if (!needsZtoc || (await this.#deps.files.hasZtoc(found.summary))) return found;
    return waitFor(this.#replace(layer, found), signal);
  }

  /**
   * The index that replaces a damaged one, rebuilt from the blob. The stored files stay until then, for
   * readers of their intact parts.
   * @throws SpandrelError as {@link ensure}
   */
  async replace(layer: AuthorizedLayer, damaged: LayerIndexView): Promise<LayerIndex> {
    return this.#replace(layer, damaged);
  }

  async #replace(layer: Layer, damaged: LayerIndexView): Promise<LayerIndex> {
    const { digest } = layer;
    const running = this.#buildOf(layer);
    if (running !== undefined) return running.published;
    const known = this.#open.get(digest);
    const isKnown = damaged instanceof EvictableIndex ? known && damaged.isOf(known) : known === damaged;
    if (known !== undefined && isKnown !== true) return known;
    this.#deps.logger.warn({ layer: digest }, 'an index is damaged; building it again');
    this.#open.delete(digest);
    return this.#useBuild(layer, ({ published }) => published);
  }

  /**
   * Where a complete index is stored, for threads that read it themselves. It may be gone or replaced by
   * then.
   */
  filePath(digest: Digest): string {
    return this.#deps.files.path(digest);
  }

  /** Removes the index of a layer, to make room. */
  async evict(digest: Digest): Promise<void> {
    this.#open.delete(digest);
    await this.#deps.files.evict(digest);
  }

  /**
   * Starts the build, unless it is done, in progress, or has just failed at a cost. Does not wait; failures
   * are logged.
   */
  startBuild(layer: Layer): void {
    if (this.#costly.current(sourceKey(layer)) !== undefined) return;
    this.#begin(layer).catch((error: unknown) => {
      if (!isSpandrelError(error))
        this.#deps.logger.error({ err: error, layer: layer.digest }, 'the build cannot start');
    });
  }

  async #begin(layer: Layer): Promise<void> {
    await this.#awaitUnsound(layer, undefined);
    if ((await this.#find(layer.digest)) === undefined)
      await this.#useBuild(layer, (build) => build.started());
  }

  /**
   * Pass the build of a layer without an index to `use`. The failure of a build that another repository
   * began, or that reads bytes of another repository, proves nothing to this one, which then begins its own.
   */
  async #useBuild<T>(layer: Layer, use: (build: Build) => Promise<T>, signal?: AbortSignal): Promise<T> {
    const { repositoryKey } = layer.source;
    for (let tries = 1; ; tries++) {
      const build = this.#join(layer);
      try {
        return await waitFor(use(build), signal);
      } catch (error) {
        const isOthers =
          build.repositoryKey !== repositoryKey ||
          (error instanceof SourceFault && !error.isOf(repositoryKey));
        const isOver = tries === MAX_TRIES || this.#stopping.signal.aborted;
        if (!isOthers || isOver || error instanceof ProvenFault || !isSpandrelError(error)) throw error;
        await waitFor(Promise.allSettled([build.published]), signal);
      }
    }
  }

  /**
   * Waits for the end of a build that has read another blob, so that its failure does not affect later
   * requests.
   */
  async #awaitUnsound(layer: Layer, signal: AbortSignal | undefined): Promise<void> {
    const running = this.#buildOf(layer);
    if (running?.isSound() === false) await waitFor(Promise.allSettled([running.published]), signal);
  }

  /**
   * As {@link #find}, for use by the layer's repository.
   * @throws SpandrelError as {@link Layer.confirm}
   */
  async #findFor(layer: Layer, signal: AbortSignal | undefined): Promise<LayerIndex | undefined> {
    const found = await this.#find(layer.digest, signal);
    if (found !== undefined) await layer.confirm?.(signal);
    return found;
  }

  /** The complete index, if it is in memory or stored. */
  async #find(digest: Digest, signal?: AbortSignal): Promise<LayerIndex | undefined> {
    const known = this.#open.get(digest);
    if (known !== undefined) this.#deps.files.noteUse(digest);
    if (known !== undefined || this.#building.has(digest)) return known;
    return this.#lookups.run(digest, () => this.#load(digest), signal);
  }

  async #load(digest: Digest): Promise<LayerIndex | undefined> {
    const index = await this.#loads.run(() => this.#deps.files.load(digest));
    // An index that was replaced meanwhile must not come back.
    const newer = this.#open.get(digest);
    if (newer !== undefined) return newer;
    if (index === undefined) await this.#learnFault(digest);
    else if (!this.#building.has(digest)) this.#open.set(digest, index);
    return index;
  }

  async #learnFault(digest: Digest): Promise<void> {
    if (this.#faults.get(digest) !== undefined) return;
    const fault = await this.#deps.sharedFaults.find(digest);
    if (fault !== undefined) this.#faults.set(digest, fault);
  }

  /**
   * Joins or starts the build of a layer whose index was not found. There is no await between that lookup and
   * the entry in `#building`, so that no lookup misses both.
   */
  #join(layer: Layer): Build {
    const { digest } = layer;
    const running = this.#buildOf(layer);
    if (running !== undefined) {
      this.#deps.events.flightJoined('index');
      return running;
    }
    const fault = this.#faults.get(digest);
    if (fault !== undefined) throw fault;
    const build = new IndexBuild(this.#deps, layer, this.#stopping.signal);
    const published = this.#follow(layer, build);
    published.catch(() => undefined);
    const view = (signal?: AbortSignal): Promise<LayerIndexView> => build.view(signal);
    const started = (): Promise<void> => build.started();
    const { upstream, repositoryKey } = layer.source;
    const entry = { upstream, repositoryKey, view, started, isSound: () => build.isSound, published };
    this.#building.set(digest, [...(this.#building.get(digest) ?? []), entry]);
    return entry;
  }

  /** The running build that reads bytes from the layer's upstream. */
  #buildOf({ digest, source }: Layer): Build | undefined {
    return this.#building.get(digest)?.find(({ upstream }) => upstream === source.upstream);
  }

  #forgetBuild({ digest, source }: Layer): void {
    const others = this.#building.get(digest)?.filter(({ upstream }) => upstream !== source.upstream) ?? [];
    if (others.length > 0) this.#building.set(digest, others);
    else this.#building.delete(digest);
  }

  async #follow(layer: Layer, { published }: IndexBuild): Promise<LayerIndex> {
    const { digest } = layer;
    try {
      const index = await published;
      this.#open.set(digest, index);
      this.#failures.clear(sourceKey(layer));
      this.#costly.clear(sourceKey(layer));
      return index;
    } catch (error) {
      this.#rememberFailure(layer, error);
      throw error;
    } finally {
      this.#forgetBuild(layer);
    }
  }

  #rememberFailure(layer: Layer, error: unknown): void {
    const { digest } = layer;
    const failure = isSpandrelError(error)
      ? error
      : new SpandrelError('INTERNAL', 'the index cannot be built', { cause: error });
    if (REFUSALS.includes(failure.code)) return;
    if (failure instanceof ProvenFault) {
      this.#faults.set(digest, failure);
      this.#deps.sharedFaults.note(digest, failure);
    } else this.#failures.note(sourceKey(layer), failure);
    if (COSTLY_FAULTS.includes(failure.code)) this.#costly.note(sourceKey(layer), failure);
    this.#deps.events.indexFailed(digest, failure);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.allSettled([...this.#building.values()].flat().map(({ published }) => published));
    await this.#sweeping;
  }
}

/** A layer in one repository. */
function sourceKey({ digest, source }: Layer): string {
  return `${source.repositoryKey ?? ''} ${digest}`;
}
