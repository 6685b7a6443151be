import { BoundedMap } from '../cache/bounded-map.ts';
import { PassingFaults, type RetryPauses } from '../cache/passing-faults.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import type { Digest } from '../core/digest.ts';
import { type ErrorCode, isSpandrelError, SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import type { LayerIndex } from '../ztoc/layer-index.ts';
import type { LayerIndexView } from '../ztoc/layer-index-view.ts';
import type { LayerSummary } from '../ztoc/layer-summary.ts';
import { IndexBuild, type IndexBuildDeps } from './index-build.ts';
import type { Layer } from './layer.ts';

export interface LayerIndexesDeps extends IndexBuildDeps {
  /** Bytes of open indexes kept in memory. */
  readonly memoryBytes: number;
}

export type LayerIndexState =
  | { readonly kind: 'absent' | 'building' }
  | { readonly kind: 'complete'; readonly summary: LayerSummary }
  | { readonly kind: 'failed'; readonly code: ErrorCode; readonly message: string };

/** A build that others can join. */
interface Build {
  readonly view: IndexBuild['view'];
  readonly isSound: () => boolean;
  /** Settles in one step with what is remembered of the build. */
  readonly published: Promise<LayerIndex>;
}

const MAX_REMEMBERED_FAILURES = 10_000;
/** What the verified bytes of a layer prove: it fails the same way each time. */
const LAYER_FAULTS: readonly ErrorCode[] = [
  'LAYER_TOO_LARGE',
  'LAYER_UNSUPPORTED',
  'LAYER_CORRUPT',
  'TAR_INVALID',
  'TAR_UNSUPPORTED',
  'INDEX_UNMOUNTABLE',
];
/** Failures of the proxy itself, which come after a whole pass over the layer. */
export const COSTLY_FAULTS: readonly ErrorCode[] = [
  'STORE_FULL',
  'WORKER_FAILED',
  'STORE_FAILED',
  'INDEX_MALFORMED',
  'INTERNAL',
];
const COSTLY_PAUSES: RetryPauses = { firstMs: 1_000, longestMs: 60_000 };
/** Failures of the repository that a layer was asked of, or of the proxy: another may have the layer, or the same one later. */
const SAYS_NOTHING_OF_LAYER: readonly ErrorCode[] = [
  'BLOB_UNKNOWN',
  'NAME_UNKNOWN',
  'UNAUTHORIZED',
  'UPSTREAM_CREDENTIALS_REFUSED',
  'DENIED',
  'SHUTTING_DOWN',
];

/**
 * Indexes of layers: found in memory, on disk or in the shared tier, else built, each once however many ask. While a layer's index is
 * being built nobody looks for a stored one: who comes then joins the build.
 */
export class LayerIndexes implements AsyncDisposable {
  readonly #deps: LayerIndexesDeps;
  readonly #open: BoundedMap<LayerIndex>;
  /** As many as the pool takes in its queue. */
  readonly #building = new Map<Digest, Build>();
  readonly #looks: SingleFlight<LayerIndex | undefined>;
  readonly #failures = new BoundedMap<SpandrelError>({ maxEntries: MAX_REMEMBERED_FAILURES });
  /** Of builds that nobody waits for. */
  readonly #costly = new PassingFaults<SpandrelError>(COSTLY_PAUSES);
  readonly #stopping = new AbortController();

  constructor(deps: LayerIndexesDeps) {
    this.#deps = deps;
    this.#open = new BoundedMap({ maxBytes: deps.memoryBytes, sizeOf: (index) => index.memoryBytes });
    this.#looks = new SingleFlight('index', deps.metrics);
  }

  /** Starts nothing. */
  async state(digest: Digest): Promise<LayerIndexState> {
    const index = await this.#find(digest);
    if (index !== undefined) return { kind: 'complete', summary: index.summary };
    if (this.#building.has(digest)) return { kind: 'building' };
    const failure = this.#failures.get(digest);
    return failure === undefined
      ? { kind: 'absent' }
      : { kind: 'failed', code: failure.code, message: failure.message };
  }

  /**
   * An index to read with: complete, or live while it is being built. Starts the build, and the fill of the blob, if there is
   * none.
   * @throws SpandrelError LAYER_* for a layer that is known to be at fault; what fills and builds throw
   */
  async open(layer: Layer, signal?: AbortSignal): Promise<LayerIndexView> {
    await this.#passUnsound(layer.digest, signal);
    return (await this.#find(layer.digest, signal)) ?? this.#join(layer).view(signal);
  }

  /** The complete index, with its zTOC stored. @throws SpandrelError as `open` */
  async ensure(layer: Layer, signal?: AbortSignal): Promise<LayerIndex> {
    await this.#passUnsound(layer.digest, signal);
    const found = await this.#find(layer.digest, signal);
    if (found === undefined) return waitFor(this.#join(layer).published, signal);
    if (await this.#deps.files.hasZtoc(found.summary)) return found;
    return waitFor(this.replace(layer, found), signal);
  }

  /**
   * The index in the place of one that has turned out to be damaged, which is built again from the blob. What is stored of it stays
   * until then, for those who read by the parts that are right.
   * @throws SpandrelError as `ensure`
   */
  async replace(layer: Layer, damaged: LayerIndexView): Promise<LayerIndex> {
    const { digest } = layer;
    const running = this.#building.get(digest);
    if (running !== undefined) return running.published;
    const known = this.#open.get(digest);
    if (known !== undefined && known !== damaged) return known;
    this.#deps.logger.warn({ layer: digest }, 'an index is damaged, it will be built again');
    this.#open.delete(digest);
    return this.#join(layer).published;
  }

  /** There is no room for the index of a layer. */
  async evict(digest: Digest): Promise<void> {
    this.#open.delete(digest);
    await this.#deps.files.evict(digest);
  }

  /** Start the build, unless it is done, under way, or has just failed at a cost. Nobody waits for it; a failure is logged. */
  startBuild(layer: Layer): void {
    if (this.#costly.current(layer.digest) !== undefined) return;
    this.open(layer).catch((error: unknown) => {
      if (!isSpandrelError(error))
        this.#deps.logger.error({ err: error, layer: layer.digest }, 'build could not start');
    });
  }

  /** Who comes after a build has turned out to be of another blob has nothing to do with its failure. */
  async #passUnsound(digest: Digest, signal: AbortSignal | undefined): Promise<void> {
    const running = this.#building.get(digest);
    if (running?.isSound() === false) await waitFor(Promise.allSettled([running.published]), signal);
  }

  /** The complete index, if it is known or stored. */
  async #find(digest: Digest, signal?: AbortSignal): Promise<LayerIndex | undefined> {
    const known = this.#open.get(digest);
    if (known !== undefined) this.#deps.files.noteUse(digest);
    if (known !== undefined || this.#building.has(digest)) return known;
    return this.#looks.run(digest, () => this.#load(digest), signal);
  }

  async #load(digest: Digest): Promise<LayerIndex | undefined> {
    const index = await this.#deps.files.load(digest);
    // One that was replaced during the look must not come back.
    const newer = this.#open.get(digest);
    if (newer !== undefined) return newer;
    if (index !== undefined && !this.#building.has(digest)) this.#open.set(digest, index);
    return index;
  }

  /**
   * The build of a layer whose index has just been looked for in vain. Between that and the build's entry in the table nothing is waited
   * for, so that no look misses both.
   */
  #join(layer: Layer): Build {
    const { digest } = layer;
    const running = this.#building.get(digest);
    if (running !== undefined) {
      this.#deps.metrics.singleFlightJoined.inc({ what: 'index' });
      return running;
    }
    const failure = this.#failures.get(digest);
    if (failure !== undefined && isLayerFault(failure.code)) throw failure;
    const build = new IndexBuild(this.#deps, layer, this.#stopping.signal);
    const published = this.#follow(digest, build);
    published.catch(() => undefined);
    const view = (signal?: AbortSignal): Promise<LayerIndexView> => build.view(signal);
    const entry = { view, isSound: () => build.isSound, published };
    this.#building.set(digest, entry);
    return entry;
  }

  async #follow(digest: Digest, { published }: IndexBuild): Promise<LayerIndex> {
    try {
      const index = await published;
      this.#open.set(digest, index);
      this.#failures.delete(digest);
      this.#costly.clear(digest);
      return index;
    } catch (error) {
      this.#rememberFailure(digest, error);
      throw error;
    } finally {
      this.#building.delete(digest);
    }
  }

  #rememberFailure(digest: Digest, error: unknown): void {
    const failure = isSpandrelError(error)
      ? error
      : new SpandrelError('INTERNAL', 'the index could not be built', { cause: error });
    if (SAYS_NOTHING_OF_LAYER.includes(failure.code)) return;
    this.#failures.set(digest, failure);
    if (COSTLY_FAULTS.includes(failure.code)) this.#costly.note(digest, failure);
    this.#deps.metrics.indexBuilds.inc({ outcome: 'failed' });
    this.#deps.logger.warn({ layer: digest, code: failure.code, err: failure.cause }, failure.message);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.allSettled(Array.from(this.#building.values(), ({ published }) => published));
  }
}

/** True if a build that failed with `code` fails each time: the layer's own bytes prove it. */
export function isLayerFault(code: ErrorCode): boolean {
  return LAYER_FAULTS.includes(code);
}
