import { BoundedMap } from '../../cache/bounded-map.ts';
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
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import { type ConvertedForm, convertToForm, type IndexedImage } from './convert-to-form.ts';
import type { Derivation } from '../proofs/derivation.ts';
import type { ImageManifests, PlatformManifest } from '../manifests/image-manifests.ts';
import { type IndexPolicies, type IndexPolicy, servesTars } from './index-policy.ts';
import type { Layers } from './layers.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { Origins } from '../proofs/origins.ts';
import type { ImagePlan, ImagePlans } from './image-plans.ts';
import type { PushedIndexes } from './pushed-indexes.ts';
import type { TarsOfImage } from '../../soci/convert-image.ts';
import type { TarLayers } from './tar-layers.ts';
import type { SociIndexer, SociIndexOfImage } from './soci-indexer.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface LazyImagesDeps {
  readonly proofs: BlobProofs;
  readonly manifests: Manifests;
  readonly images: ImageManifests;
  readonly plans: ImagePlans;
  readonly layers: Layers;
  readonly indexer: SociIndexer;
  /** Of the `inflated` form. */
  readonly inflatedIndexer: SociIndexer;
  readonly tarLayers: TarLayers;
  readonly pushed: PushedIndexes;
  readonly store: ManifestStore;
  readonly origins: Origins;
  readonly policies: IndexPolicies;
  readonly forecast: BuildForecast;
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

interface Converted extends ConvertedForm {
  readonly derivation: Derivation;
}

const MAX_REMEMBERED = 10_000;
/** Enough for what is in memory or on disk. */
const STALE_WAIT_MS = 200;

/**
 * Decides the response for a tag: the original image, or one with SOCI v2 indexes. The response depends only
 * on the image, the configuration, and whether the layers are indexed, so all replicas return the same
 * digest.
 */
export class LazyImages {
  readonly #deps: LazyImagesDeps;
  /** By {@link convertedKey}. */
  readonly #converted = new BoundedMap<Converted>({ maxEntries: MAX_REMEMBERED });

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
    using limit = request.isStale ? new TimeLimit(STALE_WAIT_MS) : undefined;
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
    if (work !== undefined && !(await this.#isCurrent(target, plan, form)))
      return this.#hold(target, plan, form, work, policy, signal);
    return (await this.#convert(target, plan, form)) ?? original;
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
    for (const form of V2_FORMS) if (form !== 'inflated' || hasTars) await this.#convert(target, plan, form);
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
      await Promise.all(images.map(({ manifest }) => indexer.sociIndex(target, manifest, 'v2')));
    };
    const work = planning.then(index);
    // Possibly nobody waits; layers remember their failures.
    work.catch(() => undefined);
    return work;
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
    const missing = plan.images.flatMap(({ manifest }) => indexer.eligibleLayers(target, manifest));
    const left = await layers.unindexedBytes(missing);
    using deadline = new TimeLimit(forecast.estimateMs(left) > policy.holdMs ? 0 : policy.holdMs);
    try {
      await waitFor(work, deadline.with(signal));
    } catch (error) {
      signal.throwIfAborted();
      const finished = await this.#convert(target, plan, form);
      if (finished === undefined && !deadline.isOver) throw error;
      return finished ?? plan.original;
    }
    return (await this.#convert(target, plan, form)) ?? plan.original;
  }

  /** The converted image if all its indexes exist; the original if there is nothing to index. */
  async #convert(target: Target, plan: ImagePlan, form: V2Form): Promise<ManifestDocument | undefined> {
    const { images, proofs } = this.#deps;
    const indexer = this.#indexerOf(form);
    const settled = await Promise.all(plan.images.map(({ manifest }) => indexer.isSettled(target, manifest)));
    if (settled.includes(false)) return undefined;
    const indexes: IndexedImage[] = [];
    for (const image of plan.images) {
      const found = await indexer.existingV2(target, image.manifest);
      if (found !== undefined) indexes.push({ image, index: found.index, tars: tarsOf(found) });
    }
    if (indexes.length === 0) return plan.original;
    const key = convertedKey(target, plan.original, form, indexes);
    const known = this.#converted.get(key);
    if (known !== undefined) return this.#publish(target, known);
    const read = new Set([plan.original.digest, ...indexes.map(({ image }) => image.manifest.digest)]);
    const noteRead = (found: ManifestDocument | undefined): ManifestDocument | undefined => {
      if (found !== undefined) read.add(found.digest);
      return found;
    };
    const made = await convertToForm(form, plan.original, indexes, {
      async walk(index) {
        const content = await images.walk(target, index);
        content.indexes.forEach(noteRead);
        return content;
      },
      read: async (listed) => noteRead(await images.read(target, listed)),
    });
    const layers = indexes.flatMap(({ index }) => proofs.derivationOf(target, index.digest)?.layers ?? []);
    const derivation = { image: plan.original.digest, manifests: [...read], layers: [...new Set(layers)] };
    const converted = { ...made, derivation };
    if (converted.isComplete) this.#converted.set(key, converted);
    return this.#publish(target, converted);
  }

  /**
   * Stores the converted documents before they are named, and lets every repository that has what they were
   * made from get them.
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  async #publish(target: Target, { top, others, derivation }: Converted): Promise<ManifestDocument> {
    const { store, proofs, origins } = this.#deps;
    for (const document of [...others, top]) {
      // Unchanged manifests come from the registry.
      if (derivation.manifests.includes(document.digest)) continue;
      await origins.publish(document.digest, () => ({ kind: 'image', derivation, document }));
      if (!(await store.has(document.digest))) await store.put(document);
      proofs.rememberDerived(target, document.digest, derivation);
    }
    return top;
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

function tarsOf({ layers }: SociIndexOfImage): TarsOfImage {
  return new Map(
    layers.flatMap(({ place, tar }) =>
      tar === undefined ? [] : [[place, { digest: tar.diffId, size: tar.tarBytes }]],
    ),
  );
}

/** False for clients whose Accept lacks the OCI types: they get the original. */
function acceptsOci(accept: string): boolean {
  const types = accept.split(',').map((type) => type.split(';', 1)[0]?.trim());
  return types.includes(MEDIA_TYPES.ociIndex) && types.includes(MEDIA_TYPES.ociManifest);
}

/**
 * A converted image depends on the original, on other manifests of it in the repository, on the form, and on
 * the indexes, which stand for the settings that they were built with.
 */
function convertedKey(
  target: Target,
  original: ManifestDocument,
  form: V2Form,
  indexes: readonly IndexedImage[],
): string {
  const pairs = indexes.map(({ image, index }) => `${image.manifest.digest}=${index.digest}`);
  return [targetKey(target), original.digest, form, ...pairs].join(' ');
}
