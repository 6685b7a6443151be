import { randomUUID } from 'node:crypto';

import type { Growth } from '../../blobs/files/growth.ts';
import { formatPlatform, type Platform } from '../../core/platform.ts';
import type { Digest } from '../../core/digest.ts';
import { type ErrorCode, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import type { Reference } from '../../core/image-reference.ts';
import { mapBounded } from '../../core/work/map-bounded.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Layers } from '../lazy/layers.ts';
import type { LazyImages } from '../lazy/lazy-images.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { SociIndexer } from '../lazy/soci-indexer.ts';
import type { Target } from '../../upstream/target.ts';

export interface WarmJobDeps {
  readonly manifests: Manifests;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly indexer: SociIndexer;
  readonly lazyImages: LazyImages;
  readonly events: Events;
  readonly logger: Logger;
}

/** A request to warm an image. */
export interface WarmOrder {
  /** As the client wrote it. */
  readonly image: string;
  readonly target: Target;
  readonly reference: Reference;
  /** Default: the platforms of the repository's policy. */
  readonly platforms: readonly Platform[] | undefined;
}

/** Blobs of one image whose fills start at the same time. */
const MAX_OPENING = 32;

/** A job in the admin API. */
export interface WarmJobView {
  readonly id: string;
  readonly image: string;
  /** `running` includes jobs that have not started. */
  readonly state: 'running' | 'done' | 'failed';
  readonly createdAt: string;
  readonly platforms: readonly string[];
  readonly layers: readonly WarmLayerView[];
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

interface WarmLayerView {
  readonly digest: Digest;
  readonly size: number;
  /** Compressed bytes that are stored, from the start of the layer. */
  readonly fetched: number;
  readonly state: 'absent' | 'building' | 'complete' | 'failed';
  /** Why the layer is left out of the SOCI index. */
  readonly reason?: ErrorCode;
}

interface WarmLayer {
  readonly digest: Digest;
  readonly size: number;
  growth: Growth | undefined;
  /** Present once its blob is open. */
  authorized: AuthorizedLayer | undefined;
  /** True if the registry lacks it. */
  isAbsent: boolean;
}

/** Final state of a job. Later changes of the image do not alter it. */
type Ending = Pick<WarmJobView, 'state' | 'layers' | 'error'>;

/** Fetches and indexes one image. */
export class WarmJob {
  readonly id = randomUUID();
  readonly #deps: WarmJobDeps;
  readonly #order: WarmOrder;
  readonly #createdAt = new Date();
  #platforms: readonly string[] = [];
  #layers: readonly WarmLayer[] = [];
  #ending: Ending | undefined;

  constructor(deps: WarmJobDeps, order: WarmOrder) {
    this.#deps = deps;
    this.#order = order;
  }

  get hasEnded(): boolean {
    return this.#ending !== undefined;
  }

  /**
   * Never rejects. Releases everything in the store before it resolves.
   * @param signal ends the job
   */
  async run(signal: AbortSignal): Promise<void> {
    using _held = this.#deps.events.hold('job');
    const error = await this.#try(signal);
    const layers = await this.#describeLayers(signal);
    if (error === undefined) {
      this.#ending = { state: 'done', layers };
      return;
    }
    const { code, message } = error;
    this.#ending = { state: 'failed', layers, error: { code, message } };
    if (!signal.aborted)
      this.#deps.logger.warn({ image: this.#order.image, code, err: error }, 'image not warmed');
  }

  async #try(signal: AbortSignal): Promise<SpandrelError | undefined> {
    try {
      signal.throwIfAborted();
      await this.#warm(signal);
      return undefined;
    } catch (error) {
      if (isSpandrelError(error)) return error;
      return new SpandrelError('INTERNAL', 'the image could not be warmed', { cause: error });
    }
  }

  async #warm(signal: AbortSignal): Promise<void> {
    const { manifests, lazyImages, indexer } = this.#deps;
    const { target, reference, platforms } = this.#order;
    // The tag may have just moved.
    const { manifest } = await manifests.refresh(target, reference, signal);
    const planned = await lazyImages.planned(target, manifest, platforms, signal);
    this.#platforms = planned.map(({ platform }) => formatPlatform(platform));
    const eligible = planned.flatMap((image) => indexer.eligibleLayers(target, image.manifest));
    const sizes = new Map(eligible.map(({ digest, size }) => [digest, size]));
    this.#layers = Array.from(sizes, ([digest, size]) => ({
      digest,
      size,
      growth: undefined,
      authorized: undefined,
      isAbsent: false,
    }));
    // Open handles keep the blobs in the store until they are indexed.
    await using blobs = new AsyncDisposableStack();
    await this.#open(blobs, signal);
    await lazyImages.indexAnew(target, planned, signal);
  }

  /**
   * Opens the blobs of all layers. If one fails, opening stops; none is still being opened when this settles.
   */
  async #open(blobs: AsyncDisposableStack, signal: AbortSignal): Promise<void> {
    const failing = new AbortController();
    const either = AbortSignal.any([signal, failing.signal]);
    const open = async (layer: WarmLayer): Promise<void> => {
      try {
        const { handle, layer: authorized } = await this.#deps.layers.openBlob(
          this.#order.target,
          layer.digest,
          either,
        );
        layer.growth = blobs.use(handle).growth;
        layer.authorized = authorized;
      } catch (error) {
        if (isSpandrelError(error, 'BLOB_UNKNOWN')) layer.isAbsent = true;
        else failing.abort(error);
      }
    };
    await mapBounded(this.#layers, open, { maxRunning: MAX_OPENING });
    failing.signal.throwIfAborted();
  }

  async view(): Promise<WarmJobView> {
    const layers = this.#ending === undefined ? await this.#describeLayers() : [];
    const { image } = this.#order;
    const common = {
      id: this.id,
      image,
      createdAt: this.#createdAt.toISOString(),
      platforms: this.#platforms,
    };
    return { ...common, ...(this.#ending ?? { state: 'running', layers }) };
  }

  #describeLayers(signal?: AbortSignal): Promise<WarmLayerView[]> {
    return Promise.all(this.#layers.map((layer) => this.#describeLayer(layer, signal)));
  }

  async #describeLayer(
    { digest, size, growth, authorized, isAbsent }: WarmLayer,
    signal: AbortSignal | undefined,
  ): Promise<WarmLayerView> {
    const fetched = growth?.availableBytes ?? 0;
    const failed = (reason: ErrorCode): WarmLayerView => ({ digest, size, fetched, state: 'failed', reason });
    try {
      if (isAbsent) return failed('BLOB_UNKNOWN');
      if (authorized === undefined) return { digest, size, fetched, state: 'absent' };
      const state = await this.#deps.indexes.state(authorized, signal);
      if (state.kind === 'complete') return { digest, size, fetched: size, state: 'complete' };
      return state.kind === 'failed' ? failed(state.code) : { digest, size, fetched, state: state.kind };
    } catch (error) {
      // The store cannot be read now.
      if (!isSpandrelError(error)) throw error;
      return failed(error.code);
    }
  }
}
