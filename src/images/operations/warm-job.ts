import { randomUUID } from 'node:crypto';

import type { Growth } from '../../blobs/files/growth.ts';
import { formatPlatform, matchesPlatform, type Platform } from '../../core/platform.ts';
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
import type { SkipReason } from '../../soci/skip-reason.ts';
import type { Target } from '../../upstream/target.ts';

export interface WarmJobDeps {
  readonly manifests: Manifests;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
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
  /** By platform, whether nodes read the image lazily; empty until the job is done. */
  readonly images: readonly WarmImageView[];
  readonly layers: readonly WarmLayerView[];
  readonly error?: { readonly code: ErrorCode; readonly message: string };
}

export interface WarmImageView {
  readonly platform: string;
  readonly manifest: Digest;
  readonly lazy: boolean;
  /** The SOCI index. */
  readonly index?: Digest;
}

export interface WarmLayerView {
  readonly digest: Digest;
  readonly size: number;
  /** Compressed bytes that are stored, from the start of the layer. */
  readonly fetched: number;
  readonly state: 'absent' | 'building' | 'complete' | 'failed' | 'skipped';
  /** Why a `failed` layer is left out of the SOCI index. */
  readonly reason?: ErrorCode;
  /** Why a `skipped` layer is: by its size or format. It is not fetched. */
  readonly skipped?: SkipReason;
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
type Ending = Pick<WarmJobView, 'state' | 'images' | 'layers' | 'error'>;

/** Fetches and indexes one image. */
export class WarmJob {
  readonly id = randomUUID();
  readonly #deps: WarmJobDeps;
  readonly #order: WarmOrder;
  readonly #createdAt = new Date();
  #platforms: readonly string[] = [];
  #images: readonly WarmImageView[] = [];
  #layers: readonly WarmLayer[] = [];
  #skipped: readonly WarmLayerView[] = [];
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
    const images = this.#images;
    if (error === undefined) {
      this.#ending = { state: 'done', images, layers };
      return;
    }
    const { code, message } = error;
    this.#ending = { state: 'failed', images, layers, error: { code, message } };
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
    const { manifests, lazyImages } = this.#deps;
    const { target, reference, platforms } = this.#order;
    // The tag may have just moved.
    const { manifest } = await manifests.refresh(target, reference, signal);
    const planned = await lazyImages.planned(target, manifest, platforms, signal);
    refuseAbsent(platforms, planned);
    this.#platforms = planned.map(({ platform }) => formatPlatform(platform));
    const skipped = planned.flatMap((image) => lazyImages.skippedLayers(target, image));
    this.#skipped = [...new Map(skipped.map((item) => [item.layer.digest, item])).values()].map(
      ({ layer: { digest, size }, skipped: why }) => ({
        digest,
        size,
        fetched: 0,
        state: 'skipped',
        skipped: why,
      }),
    );
    const eligible = planned.flatMap((image) => lazyImages.eligibleLayers(target, image));
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
    this.#images = await Promise.all(
      planned.map(async (image) => {
        const index = await lazyImages.indexOf(target, image);
        const platform = formatPlatform(image.platform);
        const described = { platform, manifest: image.manifest.digest, lazy: index !== undefined };
        return index === undefined ? described : { ...described, index };
      }),
    );
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
    return { ...common, ...(this.#ending ?? { state: 'running', images: [], layers }) };
  }

  async #describeLayers(signal?: AbortSignal): Promise<WarmLayerView[]> {
    const eligible = await Promise.all(this.#layers.map((layer) => this.#describeLayer(layer, signal)));
    return [...eligible, ...this.#skipped];
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

/** @throws SpandrelError PLATFORM_UNKNOWN if a platform that the order names is not planned */
function refuseAbsent(
  wanted: readonly Platform[] | undefined,
  planned: readonly { readonly platform: Platform }[],
): void {
  const missing = wanted?.filter(
    (platform) => !planned.some((found) => matchesPlatform(platform, found.platform)),
  );
  if (missing === undefined || missing.length === 0) return;
  const found = planned.map(({ platform }) => formatPlatform(platform)).join(', ');
  throw new SpandrelError(
    'PLATFORM_UNKNOWN',
    `the image has no ${missing.map(formatPlatform).join(', ')}${found === '' ? '' : `; it has ${found}`}`,
  );
}
