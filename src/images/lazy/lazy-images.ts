import type { ByteCache } from '../../cache/byte-cache.ts';
import { V2_FORMS, type V2Form } from '../../config/index-rule.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import { waitFor } from '../../core/wait-for.ts';
import type { BuildForecast } from '../../layers/build-forecast.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import { type BootLayersOfImages, type ConvertedImages, NO_BOOT_LAYERS } from './converted-images.ts';
import type { PlatformManifest } from '../manifests/image-manifests.ts';
import { soundDescriptors, tryParseManifest } from '../documents/parse-manifest.ts';
import { type IndexPolicies, type IndexPolicy, servesTars } from './index-policy.ts';
import type { Layers } from './layers.ts';
import type { BootAnswer } from '../proofs/boot-records.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { ImagePlan, ImagePlans } from './image-plans.ts';
import type { PushedIndexes } from './pushed-indexes.ts';
import type { TarLayers } from './tar-layers.ts';
import type { SociIndexer } from './soci-indexer.ts';
import type { Target } from '../../upstream/target.ts';

/** Decides which images get boot layers, and makes them. Manifests are those of one platform. */
export interface ImageBootLayers {
  /** What tags answer an image with, as far as that is decided. */
  answerOf(target: Target, image: Digest): BootAnswer | undefined;
  /** True if nothing without a boot layer may be answered yet. */
  isPending(target: Target, manifest: ManifestDocument): Promise<boolean>;
  /**
   * Makes the boot layer of an image, if one is wanted.
   * @throws SpandrelError if it could not be made now, and may be later
   */
  prepare(target: Target, manifest: ManifestDocument): Promise<void>;
  /** A tag has answered the image without a boot layer. */
  noteAnswered(target: Target, manifest: ManifestDocument): Promise<void>;
}

export interface LazyImagesDeps {
  readonly manifests: Manifests;
  readonly plans: ImagePlans;
  readonly converted: ConvertedImages;
  readonly layers: Layers;
  readonly indexer: SociIndexer;
  /** Of the `inflated` form. */
  readonly inflatedIndexer: SociIndexer;
  readonly tarLayers: TarLayers;
  readonly bootLayers: ImageBootLayers;
  readonly pushed: PushedIndexes;
  readonly policies: IndexPolicies;
  readonly forecast: BuildForecast;
  /** Where indexes and documents outlive the disk, if they do. */
  readonly lasting?: ByteCache | undefined;
  readonly events: Events;
  readonly logger: Logger;
}

/** The properties of a request that decide the response for a tag. */
export interface TagRequest {
  readonly userAgent: string;
  /** All `Accept` lines. */
  readonly accept: string;
  /** True if the client uses the proxy as a mirror (`?ns=`). */
  readonly isMirrored: boolean;
  /** True if the upstream does not respond: then nothing that needs it is waited for. */
  readonly isStale: boolean;
}

/** What decides on the response, besides image and form. */
interface Answering {
  readonly request: TagRequest;
  readonly policy: IndexPolicy;
  readonly signal: AbortSignal;
}

/** Enough for what is in memory or on disk. */
const STALE_WAIT_MS = 200;
/** Enough for a new replica, which reads all of it from the bucket. */
const LASTING_WAIT_MS = 5_000;

/** As it is, but a build that needs the upstream is not waited for. */
function hastened(policy: IndexPolicy): IndexPolicy {
  return { ...policy, holdMs: Math.min(policy.holdMs, STALE_WAIT_MS) };
}

/**
 * Decides the response for a tag: the original image, or one with SOCI v2 indexes. The response depends only
 * on the image, the configuration, and whether the layers are indexed, so all replicas return the same
 * digest.
 */
export class LazyImages {
  readonly #deps: LazyImagesDeps;

  constructor(deps: LazyImagesDeps) {
    this.#deps = deps;
  }

  /**
   * The response for a tag that names `original`. A request of a lazy client starts the indexing, and waits
   * for it if it is expected to end in time. `signal` ends the wait, not the work.
   */
  async answer(
    target: Target,
    original: ManifestDocument,
    request: TagRequest,
    signal: AbortSignal,
  ): Promise<ManifestDocument> {
    const policy = this.#deps.policies.of(target);
    const form = formFor(policy, request);
    const image = await this.#answer(target, original, form, { request, policy, signal });
    this.#deps.events.tagAnswered(image === original ? 'original' : form);
    return image;
  }

  async #answer(
    target: Target,
    original: ManifestDocument,
    form: V2Form,
    { request, policy, signal }: Answering,
  ): Promise<ManifestDocument> {
    if (!policy.v2 || !acceptsOci(request.accept)) return original;
    const waitMs = this.#deps.lasting === undefined ? STALE_WAIT_MS : LASTING_WAIT_MS;
    using limit = request.isStale ? new TimeLimit(waitMs) : undefined;
    try {
      const choosing = this.#choose(target, original, form, { request, policy, signal });
      return await waitFor(choosing, limit === undefined ? signal : limit.with(signal));
    } catch (error) {
      if (limit?.isOver === true && error === limit.signal.reason) return original;
      // The image can be pulled without an index.
      signal.throwIfAborted();
      if (!isSpandrelError(error)) throw error;
      this.#deps.logger.warn({ manifest: original.digest, code: error.code }, 'image served without index');
      return original;
    }
  }

  async #choose(
    target: Target,
    original: ManifestDocument,
    form: V2Form,
    { request, policy, signal }: Answering,
  ): Promise<ManifestDocument> {
    const isLazy = policy.lazyClients.some((start) => request.userAgent.startsWith(start));
    const planning = isLazy
      ? this.#deps.plans.unlessPushed(target, original, policy)
      : this.#planIfIndexed(target, original, form, policy);
    const work = isLazy ? this.#startIndexing(target, planning, form) : undefined;
    const plan = await waitFor(planning, signal);
    if (plan.images.length === 0) return original;
    if (work !== undefined && !(await this.#isReady(target, plan, form)))
      return this.#hold(target, plan, form, work, request.isStale ? hastened(policy) : policy, signal);
    return (await this.#give(target, plan, form)) ?? original;
  }

  /**
   * Indexes manifests concurrently, as tags of the repository name them; ignores earlier failures, for a
   * caller that knows of a change. `signal` ends the wait, not the work.
   * @throws SpandrelError of a fill that failed
   */
  async indexAnew(target: Target, images: readonly PlatformManifest[], signal: AbortSignal): Promise<void> {
    const { indexer, inflatedIndexer, policies } = this.#deps;
    const indexers = servesTars(policies.of(target)) ? [indexer, inflatedIndexer] : [indexer];
    const indexing = images.flatMap(({ manifest }) => indexers.map((one) => one.restore(target, manifest)));
    await waitFor(Promise.all(indexing), signal);
    const ofTags = this.#indexerOfTags(target);
    const prepare = async ({ manifest }: PlatformManifest): Promise<void> => {
      if (!(await staysWhole(ofTags, target, manifest)))
        await this.#deps.bootLayers.prepare(target, manifest);
    };
    await waitFor(Promise.all(images.map(prepare)), signal);
  }

  /** Layers that {@link indexAnew} indexes. */
  eligibleLayers(target: Target, { manifest }: PlatformManifest): readonly Descriptor[] {
    return this.#indexerOfTags(target).eligibleLayers(target, manifest);
  }

  /** Layers that {@link indexAnew} leaves out by size or format, with the reason. */
  skippedLayers(target: Target, { manifest }: PlatformManifest): ReturnType<SociIndexer['skippedLayers']> {
    return this.#indexerOfTags(target).skippedLayers(target, manifest);
  }

  #indexerOfTags(target: Target): SociIndexer {
    return this.#indexerOf(servesTars(this.#deps.policies.of(target)) ? 'inflated' : 'lean');
  }

  /**
   * The manifests of an image whose indexes its tags include; see {@link indexAnew}.
   * @param options as {@link ImagePlans.make}
   */
  async planned(
    target: Target,
    original: ManifestDocument,
    platforms?: IndexPolicy['platforms'],
    options: Parameters<ImagePlans['make']>[3] = {},
  ): Promise<readonly PlatformManifest[]> {
    const policy = this.#deps.policies.of(target);
    const wanted = platforms === undefined ? policy : { ...policy, platforms };
    return (await this.#deps.plans.make(target, original, wanted, options)).images;
  }

  /**
   * The SOCI index by which nodes read an image lazily, the publisher's or ours; `undefined` if they pull it
   * whole: no layer can be indexed, or a rule turns indexes off.
   */
  async indexOf(target: Target, { manifest }: PlatformManifest): Promise<Digest | undefined> {
    const { v1, v2 } = this.#deps.policies.of(target);
    const pushed = await this.#deps.pushed.find(target, manifest);
    const known = pushed.v2 ?? pushed.v1;
    if (known !== undefined || (!v1 && !v2)) return known;
    const indexer = v2 ? this.#indexerOfTags(target) : this.#deps.indexer;
    return (await indexer.existing(target, manifest, v2 ? 'v2' : 'v1'))?.digest;
  }

  /** Makes again, as far as the layers are indexed, every form of an image that the store has lost. */
  async restore(target: Target, original: ManifestDocument): Promise<void> {
    // Ignores indexes pushed since: documents already named to clients must stay available.
    const plan = await this.#deps.plans.of(target, original, this.#deps.policies.of(target));
    if (plan.images.length === 0) return;
    const hasTars = this.#deps.tarLayers.mayHaveTars(target);
    const boots = this.#bootLayersOf(target, plan);
    for (const form of V2_FORMS) {
      if (form === 'inflated' && !hasTars) continue;
      await this.#deps.converted.convert(target, plan, form, NO_BOOT_LAYERS);
      if (form !== 'full' && boots.size > 0) await this.#deps.converted.convert(target, plan, form, boots);
    }
  }

  /** True if the image can be served with its indexes without building any. */
  async isConvertible(target: Target, original: ManifestDocument): Promise<boolean> {
    const policy = this.#deps.policies.of(target);
    const plan = await this.#deps.plans.of(target, original, policy);
    return this.#isCurrent(target, plan, servesTars(policy) ? 'inflated' : 'lean');
  }

  #indexerOf(form: V2Form): SociIndexer {
    return form === 'inflated' ? this.#deps.inflatedIndexer : this.#deps.indexer;
  }

  /** Starts the indexing, which continues when the client leaves. */
  #startIndexing(target: Target, planning: Promise<ImagePlan>, form: V2Form): Promise<void> {
    const indexer = this.#indexerOf(form);
    const index = async ({ images }: ImagePlan): Promise<void> => {
      const build = async ({ manifest }: PlatformManifest): Promise<void> => {
        const found = await indexer.sociIndex(target, manifest, 'v2');
        if (found !== undefined && form !== 'full') await this.#deps.bootLayers.prepare(target, manifest);
      };
      await Promise.all(images.map(build));
    };
    const work = planning.then(index);
    // Possibly nobody waits; layers remember their failures.
    work.catch(() => undefined);
    return work;
  }

  /** True if nothing is to be built before the image is answered. */
  async #isReady(target: Target, plan: ImagePlan, form: V2Form): Promise<boolean> {
    return (await this.#isCurrent(target, plan, form)) && !(await this.#isBootPending(target, plan, form));
  }

  async #isBootPending(target: Target, { images }: ImagePlan, form: V2Form): Promise<boolean> {
    if (form === 'full') return false;
    const { bootLayers } = this.#deps;
    const indexer = this.#indexerOf(form);
    const isPending = async ({ manifest }: PlatformManifest): Promise<boolean> =>
      (await bootLayers.isPending(target, manifest)) && !(await staysWhole(indexer, target, manifest));
    return (await Promise.all(images.map(isPending))).includes(true);
  }

  async #isCurrent(target: Target, { images }: ImagePlan, form: V2Form): Promise<boolean> {
    const indexer = this.#indexerOf(form);
    return (await Promise.all(images.map(({ manifest }) => indexer.isCurrent(target, manifest)))).every(
      Boolean,
    );
  }

  /** Waits for the work if it is expected to end in time; returns what can be served then. */
  async #hold(
    target: Target,
    plan: ImagePlan,
    form: V2Form,
    work: Promise<void>,
    policy: IndexPolicy,
    signal: AbortSignal,
  ): Promise<ManifestDocument> {
    const { forecast, layers } = this.#deps;
    const indexer = this.#indexerOf(form);
    // A boot layer needs the files of all layers.
    const needsAll = await this.#isBootPending(target, plan, form);
    const missing = plan.images.flatMap(({ manifest }) =>
      needsAll ? layersOf(manifest) : indexer.eligibleLayers(target, manifest),
    );
    const left = await layers.unindexedBytes(missing);
    using deadline = new TimeLimit(forecast.estimateMs(left) > policy.holdMs ? 0 : policy.holdMs);
    try {
      await waitFor(work, deadline.with(signal));
    } catch (error) {
      signal.throwIfAborted();
      const finished = await this.#give(target, plan, form);
      if (finished === undefined && !deadline.isOver) throw error;
      return finished ?? plan.original;
    }
    return (await this.#give(target, plan, form)) ?? plan.original;
  }

  /**
   * The converted image as tags answer it from now on; `undefined` if its indexes or boot layers are still to
   * be made.
   */
  async #give(target: Target, plan: ImagePlan, form: V2Form): Promise<ManifestDocument | undefined> {
    if (await this.#isBootPending(target, plan, form)) return undefined;
    const hasBoots = form !== 'full' && this.#deps.policies.of(target).bootLayer !== 'off';
    const boots = hasBoots ? this.#bootLayersOf(target, plan) : NO_BOOT_LAYERS;
    const converted = await this.#deps.converted.convert(target, plan, form, boots);
    if (converted === undefined || converted === plan.original || !hasBoots) return converted;
    for (const { manifest } of plan.images)
      if (!boots.has(manifest.digest)) await this.#deps.bootLayers.noteAnswered(target, manifest);
    // Another replica may have been first.
    const counting = this.#bootLayersOf(target, plan);
    return counting.size === boots.size
      ? converted
      : this.#deps.converted.convert(target, plan, form, counting);
  }

  /** Boot layers that tags answer images with, by manifest. */
  #bootLayersOf(target: Target, { images }: ImagePlan): BootLayersOfImages {
    return new Map(
      images.flatMap(({ manifest: { digest } }) => {
        const answer = this.#deps.bootLayers.answerOf(target, digest);
        return answer === undefined || answer === 'none' ? [] : [[digest, answer]];
      }),
    );
  }

  /**
   * An image that is not indexed is served as it is, without asking whether its publisher has pushed an
   * index.
   */
  async #planIfIndexed(
    target: Target,
    original: ManifestDocument,
    form: V2Form,
    policy: IndexPolicy,
  ): Promise<ImagePlan> {
    const { plans } = this.#deps;
    const { images } = await plans.of(target, original, policy);
    const indexer = this.#indexerOf(form);
    const settled = await Promise.all(images.map(({ manifest }) => indexer.isSettled(target, manifest)));
    return settled.includes(false)
      ? { original, images: [], isComplete: false }
      : plans.unlessPushed(target, original, policy);
  }
}

/** The registry that a mirror's client falls back to has no tars. */
function formFor({ v2Form }: IndexPolicy, { isMirrored }: TagRequest): V2Form {
  if (v2Form !== undefined && !(isMirrored && v2Form === 'inflated')) return v2Form;
  return isMirrored ? 'mirror' : 'lean';
}

/** True if no layer can be lazy: then the image is answered as it is, without a boot layer. */
async function staysWhole(
  indexer: SociIndexer,
  target: Target,
  manifest: ManifestDocument,
): Promise<boolean> {
  const isSettled = await indexer.isSettled(target, manifest);
  return isSettled && (await indexer.existingV2(target, manifest)) === undefined;
}

function layersOf(manifest: ManifestDocument): Descriptor[] {
  const image = tryParseManifest(manifest);
  return image?.kind === 'image' ? soundDescriptors(image.layers) : [];
}

/** False for clients whose Accept lacks the OCI types: they get the original. */
function acceptsOci(accept: string): boolean {
  const types = accept.split(',').map((type) => type.split(';', 1)[0]?.trim());
  return types.includes(MEDIA_TYPES.ociIndex) && types.includes(MEDIA_TYPES.ociManifest);
}
