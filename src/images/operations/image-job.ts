import { randomUUID } from 'node:crypto';

import type { Growth } from '../../blobs/files/growth.ts';
import { formatPlatform, matchesPlatform, parsePlatform, type Platform } from '../../core/platform.ts';
import type { Digest } from '../../core/digest.ts';
import { type ErrorCode, ERRORS, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import type { Reference } from '../../core/image-reference.ts';
import { waitFor } from '../../core/wait-for.ts';
import { mapBounded } from '../../core/work/map-bounded.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Layers } from '../lazy/layers.ts';
import type { LazyImages } from '../lazy/lazy-images.ts';
import { isConverted } from '../lazy/image-plans.ts';
import type { SociIndexer } from '../lazy/soci-indexer.ts';
import type { PlatformManifest } from '../manifests/image-manifests.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { PushedContent } from '../../publish/registry-output.ts';
import type { Pause } from '../../upstream/transport/backoff-ms.ts';
import type { ImagePublisher, Publication } from './image-publisher.ts';
import {
  describeImage,
  type ImageJobView,
  type JobImageView,
  type JobLayerView,
  type PublishedView,
} from './image-job-view.ts';
import type { OwnPushes } from './own-pushes.ts';
import type { Target } from '../../upstream/target.ts';

export interface ImageJobDeps {
  readonly manifests: Manifests;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly lazyImages: LazyImages;
  /** Of the layers as the registry has them. */
  readonly indexer: SociIndexer;
  readonly publisher: ImagePublisher;
  readonly ownPushes: OwnPushes;
  readonly pause: Pause;
  readonly events: Events;
  readonly logger: Logger;
}

/** A request to warm or to publish an image. */
export interface JobOrder {
  /** As the client wrote it. */
  readonly image: string;
  readonly target: Target;
  readonly reference: Reference;
  /** Default: the platforms of the repository's policy. */
  readonly platforms: readonly Platform[] | undefined;
  /** Absent: the image is only warmed. */
  readonly publication?: Publication;
}

/** Blobs of one image whose fills start at the same time. */
const MAX_OPENING = 32;

/** Attempts to publish an image after the first one. */
const MAX_RETRIES = 4;
const FIRST_PAUSE_MS = 1_000;
const PAUSE_GROWTH = 4;

interface JobLayer {
  readonly digest: Digest;
  readonly size: number;
  growth: Growth | undefined;
  /** Present once its blob is open. */
  authorized: AuthorizedLayer | undefined;
  /** True if the registry lacks it. */
  isAbsent: boolean;
}

/** Final state of a job. Later changes of the image do not alter it. */
type Ending = Pick<ImageJobView, 'state' | 'images' | 'layers'>;

/** Fetches and indexes one image, and pushes the indexes to its registry if the order says so. */
export class ImageJob {
  readonly id = randomUUID();
  readonly #deps: ImageJobDeps;
  readonly #order: JobOrder;
  readonly #createdAt = new Date();
  #platforms: readonly string[] = [];
  #images: readonly JobImageView[] = [];
  #layers: readonly JobLayer[] = [];
  #skipped: readonly JobLayerView[] = [];
  #error: SpandrelError | undefined;
  #ending: Ending | undefined;
  #attempts = 0;
  #pushed = { blobs: 0, manifests: 0, bytes: 0 };
  #published: Pick<PublishedView, 'digest' | 'tag' | 'fallbackTags' | 'unchanged'> = {};

  constructor(deps: ImageJobDeps, order: JobOrder) {
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
    await this.#tryOften(signal);
    const layers = await this.#describeLayers(signal);
    const error = this.#error;
    this.#ending = { state: error === undefined ? 'done' : 'failed', images: this.#images, layers };
    const { events, logger } = this.#deps;
    const { image, publication } = this.#order;
    if (signal.aborted) return;
    if (publication !== undefined)
      events.imagePublished(image, { ...this.#pushed, ...this.#published }, error);
    else if (error !== undefined) logger.warn({ image, code: error.code, err: error }, 'image not warmed');
  }

  /** Warming ends with the first failure, as all that it does is tried again by the next pull. */
  async #tryOften(signal: AbortSignal): Promise<void> {
    const { events, pause } = this.#deps;
    const { image, publication } = this.#order;
    for (let retry = 0; ; retry++) {
      this.#attempts++;
      this.#error = await this.#try(signal);
      if (this.#error === undefined || publication === undefined || retry === MAX_RETRIES) return;
      if (!ERRORS[this.#error.code].retryable || signal.aborted) return;
      const pauseMs = FIRST_PAUSE_MS * PAUSE_GROWTH ** retry;
      events.publicationRetried(image, pauseMs, this.#error);
      try {
        await pause(pauseMs, signal);
      } catch (error) {
        if (!signal.aborted) throw error;
        return;
      }
    }
  }

  async #try(signal: AbortSignal): Promise<SpandrelError | undefined> {
    const { publication } = this.#order;
    try {
      signal.throwIfAborted();
      const planned = await this.#warm(signal);
      if (planned === undefined) return undefined;
      if (publication === undefined) this.#images = await this.#describeImages(planned);
      else await this.#publish(planned, publication, signal);
      return undefined;
    } catch (error) {
      if (isSpandrelError(error)) return error;
      const verb = publication === undefined ? 'warmed' : 'published';
      return new SpandrelError('INTERNAL', `the image could not be ${verb}`, { cause: error });
    }
  }

  /** @returns `undefined` if there is nothing to publish */
  async #warm(signal: AbortSignal): Promise<readonly PlatformManifest[] | undefined> {
    const { manifests, lazyImages, indexer } = this.#deps;
    const { target, reference, platforms, publication } = this.#order;
    // The tag may have just moved.
    const { manifest } = await manifests.refresh(target, reference, signal);
    if (publication?.isAutomatic === true && isConverted(manifest)) {
      this.#published = { digest: manifest.digest, unchanged: 'already_indexed' };
      return undefined;
    }
    const options = { signal, evenIfConverted: publication !== undefined };
    const planned = await lazyImages.planned(target, manifest, platforms, options);
    refuseAbsent(platforms, planned);
    this.#platforms = planned.map(({ platform }) => formatPlatform(platform));
    const isPublished = publication !== undefined;
    // What is published has the layers as they are, whatever tags answer here.
    const skipped = planned.flatMap((image) =>
      isPublished ? indexer.skippedLayers(target, image.manifest) : lazyImages.skippedLayers(target, image),
    );
    this.#skipped = [...new Map(skipped.map((item) => [item.layer.digest, item])).values()].map(
      ({ layer: { digest, size }, skipped: why }) => ({
        digest,
        size,
        fetched: 0,
        state: 'skipped',
        skipped: why,
      }),
    );
    const eligible = planned.flatMap((image) =>
      isPublished ? indexer.eligibleLayers(target, image.manifest) : lazyImages.eligibleLayers(target, image),
    );
    if (publication?.isAutomatic === true && planned.length > 0 && eligible.length === 0) {
      this.#published = { unchanged: 'nothing_to_index' };
      return undefined;
    }
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
    if (isPublished)
      await waitFor(Promise.all(planned.map(({ manifest }) => indexer.restore(target, manifest))), signal);
    else await lazyImages.indexAnew(target, planned, signal);
    return planned;
  }

  async #describeImages(planned: readonly PlatformManifest[]): Promise<readonly JobImageView[]> {
    const { target } = this.#order;
    return Promise.all(
      planned.map(async (image) => {
        const index = await this.#deps.lazyImages.indexOf(target, image);
        return describeImage(image, index);
      }),
    );
  }

  async #publish(
    planned: readonly PlatformManifest[],
    publication: Publication,
    signal: AbortSignal,
  ): Promise<void> {
    const { target, reference } = this.#order;
    const { form, tag } = publication;
    const { top, platforms, isTagged, fallbackTags } = await this.#deps.publisher.publish({
      target,
      reference,
      form,
      tag,
      // As with soci: a platform that is named is written as it is named.
      platforms: this.#order.platforms ?? planned.map(({ platform }) => platform),
      signal,
      onPushing: (digest) => this.#deps.ownPushes.note(target, digest),
      onPush: (content) => this.#notePush(content),
    });
    if (isTagged && tag !== undefined) await this.#announce(tag, signal);
    const { blobs, manifests } = this.#pushed;
    this.#published = {
      ...(top === undefined ? {} : { digest: top.digest, ...(tag === undefined ? {} : { tag }) }),
      ...(fallbackTags.length === 0 ? {} : { fallbackTags }),
      ...(isTagged || blobs + manifests > 0 ? {} : { unchanged: 'already_published' }),
    };
    this.#images = planned.map((image) => {
      const outcome = platforms.find((found) =>
        matchesPlatform(parsePlatform(found.platform), image.platform),
      );
      return describeImage(image, outcome?.sociIndex);
    });
  }

  /** The proxy itself has moved the tag: all replicas answer the new one at once. */
  async #announce(tag: string, signal: AbortSignal): Promise<void> {
    const { manifests, logger } = this.#deps;
    try {
      await manifests.refresh(this.#order.target, { tag }, signal);
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      logger.warn(
        { image: this.#order.image, tag, code: error.code },
        'the published tag cannot be looked up',
      );
    }
  }

  #notePush({ kind, size }: PushedContent): void {
    const { blobs, manifests, bytes } = this.#pushed;
    this.#pushed = {
      blobs: blobs + (kind === 'blob' ? 1 : 0),
      manifests: manifests + (kind === 'manifest' ? 1 : 0),
      bytes: bytes + size,
    };
  }

  /**
   * Opens the blobs of all layers. If one fails, opening stops; none is still being opened when this settles.
   */
  async #open(blobs: AsyncDisposableStack, signal: AbortSignal): Promise<void> {
    const failing = new AbortController();
    const either = AbortSignal.any([signal, failing.signal]);
    const open = async (layer: JobLayer): Promise<void> => {
      const { layers, indexes } = this.#deps;
      const { target, publication } = this.#order;
      try {
        // An index is enough for a publication.
        if (publication !== undefined && (await indexes.has(layer.digest))) {
          layer.authorized = await layers.authorizedLayer(target, layer.digest, either);
          return;
        }
        const { handle, layer: authorized } = await layers.openBlob(target, layer.digest, either);
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

  async view(): Promise<ImageJobView> {
    const layers = this.#ending === undefined ? await this.#describeLayers() : [];
    const { image, publication } = this.#order;
    const error = this.#error;
    return {
      id: this.id,
      kind: publication === undefined ? 'warm' : 'publish',
      image,
      createdAt: this.#createdAt.toISOString(),
      platforms: this.#platforms,
      ...(this.#ending ?? { state: 'running', images: [], layers }),
      ...(publication === undefined ? {} : { published: this.#describePublication(publication) }),
      ...(error === undefined ? {} : { error: { code: error.code, message: error.message } }),
    };
  }

  #describePublication({ form, tag }: Publication): PublishedView {
    return {
      v1: form === 'v1',
      ...(tag === undefined ? {} : { wantedTag: tag }),
      ...this.#published,
      attempts: this.#attempts,
      ...this.#pushed,
    };
  }

  async #describeLayers(signal?: AbortSignal): Promise<JobLayerView[]> {
    const eligible = await Promise.all(this.#layers.map((layer) => this.#describeLayer(layer, signal)));
    return [...eligible, ...this.#skipped];
  }

  async #describeLayer(
    { digest, size, growth, authorized, isAbsent }: JobLayer,
    signal: AbortSignal | undefined,
  ): Promise<JobLayerView> {
    const fetched = growth?.availableBytes ?? 0;
    const failed = (reason: ErrorCode): JobLayerView => ({ digest, size, fetched, state: 'failed', reason });
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
