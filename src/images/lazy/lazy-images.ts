import { BoundedMap } from '../../cache/bounded-map.ts';
import { Memo } from '../../cache/memo.ts';
import type { RetryPauses } from '../../cache/passing-faults.ts';
import { V2_FORMS, type V2Form } from '../../config/index-rule.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { matchesPlatform } from '../../core/platform.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import { waitFor } from '../../core/wait-for.ts';
import type { BuildForecast } from '../../layers/build-forecast.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import { type ConvertedForm, convertToForm } from './convert-to-form.ts';
import { isFinalConfig } from '../documents/image-config.ts';
import type { ImageConfigs } from '../manifests/image-configs.ts';
import type { Derivation } from '../proofs/derivation.ts';
import type { ImageManifests, PlatformManifest } from '../manifests/image-manifests.ts';
import type { IndexPolicies, IndexPolicy } from './index-policy.ts';
import type { Layers } from './layers.ts';
import { parseManifest, tryParseManifest } from '../documents/parse-manifest.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { Origins } from '../proofs/origins.ts';
import { isImageManifest } from '../documents/order-by-platform.ts';
import type { PushedIndexes } from './pushed-indexes.ts';
import type { SociIndexer } from './soci-indexer.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface LazyImagesDeps {
  readonly proofs: BlobProofs;
  readonly manifests: Manifests;
  readonly images: ImageManifests;
  readonly layers: Layers;
  readonly configs: ImageConfigs;
  readonly indexer: SociIndexer;
  readonly pushed: PushedIndexes;
  readonly store: ManifestStore;
  readonly origins: Origins;
  readonly policies: IndexPolicies;
  readonly forecast: BuildForecast;
  /** Pauses before missing parts of an image are requested again. */
  readonly pauses: RetryPauses;
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

/** Which parts of an image are converted. */
interface Plan {
  readonly original: ManifestDocument;
  /** Image manifests that get an index; empty if the image stays as it is. */
  readonly images: readonly PlatformManifest[];
  /** False if the registry lacks some manifest, which may appear later. */
  readonly isComplete: boolean;
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
  /** Candidates by {@link planKey}. Whether the publisher has pushed an index is checked each time. */
  readonly #candidates: Memo<Plan>;
  /** By {@link convertedKey}. */
  readonly #converted = new BoundedMap<Converted>({ maxEntries: MAX_REMEMBERED });

  constructor(deps: LazyImagesDeps) {
    this.#deps = deps;
    const bound = { maxEntries: MAX_REMEMBERED };
    const isFinal = ({ isComplete }: Plan): boolean => isComplete;
    this.#candidates = new Memo('index', deps.events, bound, { isFinal, pauses: deps.pauses });
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
    const form = policy.v2Form ?? (request.isMirrored ? 'mirror' : 'lean');
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
    { request, policy, signal }: { request: TagRequest; policy: IndexPolicy; signal: AbortSignal },
  ): Promise<ManifestDocument> {
    const isLazy = policy.lazyClients.some((start) => request.userAgent.startsWith(start));
    const planning = isLazy
      ? this.#plan(target, original, policy)
      : this.#planIfIndexed(target, original, policy);
    const work = isLazy ? this.#startIndexing(target, planning) : undefined;
    const plan = await waitFor(planning, signal);
    if (plan.images.length === 0) return original;
    if (work !== undefined && !(await this.#isCurrent(target, plan)))
      return this.#hold(target, plan, form, work, policy, signal);
    return (await this.#convert(target, plan, form)) ?? original;
  }

  /**
   * Indexes manifests concurrently.
   * @throws SpandrelError of a fill that failed
   */
  async index(target: Target, images: readonly PlatformManifest[]): Promise<void> {
    await Promise.all(images.map(({ manifest }) => this.#deps.indexer.sociIndex(target, manifest, 'v2')));
  }

  /**
   * As {@link index}, ignoring earlier failures, for a caller that knows of a change. `signal` ends the wait,
   * not the work.
   */
  async indexAnew(target: Target, images: readonly PlatformManifest[], signal: AbortSignal): Promise<void> {
    const indexing = images.map(({ manifest }) => this.#deps.indexer.restore(target, manifest));
    await waitFor(Promise.all(indexing), signal);
  }

  /** The manifests of an image whose indexes its tags include; pass each to {@link index}. */
  async planned(
    target: Target,
    original: ManifestDocument,
    platforms?: IndexPolicy['platforms'],
    signal?: AbortSignal,
  ): Promise<readonly PlatformManifest[]> {
    const policy = this.#deps.policies.of(target);
    const wanted = platforms === undefined ? policy : { ...policy, platforms };
    return (await this.#makePlan(target, original, wanted, signal)).images;
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
    return (await this.#deps.indexer.existing(target, manifest, v2 ? 'v2' : 'v1'))?.digest;
  }

  /** Makes again, as far as the layers are indexed, every form of an image that the store has lost. */
  async restore(target: Target, original: ManifestDocument): Promise<void> {
    // Ignores indexes pushed since: documents already named to clients must stay available.
    const plan = await this.#candidatesOf(target, original, this.#deps.policies.of(target));
    if (plan.images.length === 0) return;
    for (const form of V2_FORMS) await this.#convert(target, plan, form);
  }

  /** True if the image can be served with its indexes without building any. */
  async isConvertible(target: Target, original: ManifestDocument): Promise<boolean> {
    return this.#isCurrent(
      target,
      await this.#candidatesOf(target, original, this.#deps.policies.of(target)),
    );
  }

  /** Starts the indexing, which continues when the client leaves. */
  #startIndexing(target: Target, planning: Promise<Plan>): Promise<void> {
    const work = planning.then(({ images }) => this.index(target, images));
    // Possibly nobody waits; layers remember their failures.
    work.catch(() => undefined);
    return work;
  }

  async #isCurrent(target: Target, { images }: Plan): Promise<boolean> {
    const { indexer } = this.#deps;
    return (await Promise.all(images.map(({ manifest }) => indexer.isCurrent(target, manifest)))).every(
      Boolean,
    );
  }

  /** Waits for the work if it is expected to end in time; returns what can be served then. */
  async #hold(
    target: Target,
    plan: Plan,
    form: V2Form,
    work: Promise<void>,
    policy: IndexPolicy,
    signal: AbortSignal,
  ): Promise<ManifestDocument> {
    const { indexer, forecast, layers } = this.#deps;
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
  async #convert(target: Target, plan: Plan, form: V2Form): Promise<ManifestDocument | undefined> {
    const { indexer, images, proofs } = this.#deps;
    const settled = await Promise.all(plan.images.map(({ manifest }) => indexer.isSettled(target, manifest)));
    if (settled.includes(false)) return undefined;
    const indexes: { image: PlatformManifest; index: Descriptor }[] = [];
    for (const image of plan.images) {
      const index = await indexer.existing(target, image.manifest, 'v2');
      if (index !== undefined) indexes.push({ image, index });
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

  async #plan(target: Target, original: ManifestDocument, policy: IndexPolicy): Promise<Plan> {
    const plan = await this.#candidatesOf(target, original, policy);
    const pushed = await Promise.all(
      plan.images.map(({ manifest }) => this.#deps.pushed.isPushed(target, manifest)),
    );
    // An index pushed by the publisher takes precedence.
    return pushed.includes(true) ? { ...plan, images: [] } : plan;
  }

  #candidatesOf(target: Target, original: ManifestDocument, policy: IndexPolicy): Promise<Plan> {
    const key = planKey(target, original, policy);
    return this.#candidates.get(key, () => this.#makePlan(target, original, policy));
  }

  /**
   * An image that is not indexed is served as it is, without asking whether its publisher has pushed an
   * index.
   */
  async #planIfIndexed(target: Target, original: ManifestDocument, policy: IndexPolicy): Promise<Plan> {
    const { images } = await this.#candidatesOf(target, original, policy);
    const settled = await Promise.all(
      images.map(({ manifest }) => this.#deps.indexer.isSettled(target, manifest)),
    );
    return settled.includes(false)
      ? { original, images: [], isComplete: false }
      : this.#plan(target, original, policy);
  }

  async #makePlan(
    target: Target,
    original: ManifestDocument,
    policy: IndexPolicy,
    signal?: AbortSignal,
  ): Promise<Plan> {
    const parsed = parseManifest(original);
    if (parsed.kind === 'image') {
      const config = await this.#deps.configs.read(target, parsed.config, signal);
      const { platform } = config;
      const images = platform === undefined ? [] : [{ platform, manifest: original }];
      return { original, images, isComplete: isFinalConfig(config) };
    }
    const { manifests, absent } = await this.#deps.images.walk(target, parsed, signal);
    if (manifests.some(({ artifactType }) => artifactType === MEDIA_TYPES.sociIndexV2))
      return { original, images: [], isComplete: true };
    const available = manifests.filter(isImageManifest);
    const images: PlatformManifest[] = [];
    let isComplete = absent.length === 0;
    for (const wanted of available.length === 1 ? [undefined] : policy.platforms) {
      const candidates = available.filter(
        ({ platform }) => wanted === undefined || platform === undefined || matchesPlatform(wanted, platform),
      );
      for (const candidate of candidates) {
        const manifest = await this.#deps.images.read(target, candidate, signal);
        if (manifest === undefined) isComplete = false;
        if (manifest === undefined || tryParseManifest(manifest)?.kind !== 'image') continue;
        const found = await this.#deps.images.platformOf(target, candidate, manifest, signal);
        if (!isFinalConfig(found)) isComplete = false;
        const { platform } = found;
        if (platform === undefined || (wanted !== undefined && !matchesPlatform(wanted, platform))) continue;
        if (!images.some((image) => image.manifest.digest === manifest.digest))
          images.push({ platform, manifest });
        break;
      }
    }
    return { original, images, isComplete };
  }
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
  indexes: readonly { readonly image: PlatformManifest; readonly index: Descriptor }[],
): string {
  const pairs = indexes.map(({ image, index }) => `${image.manifest.digest}=${index.digest}`);
  return [targetKey(target), original.digest, form, ...pairs].join(' ');
}

/**
 * A plan depends on the repository, the image, and the platforms of the policy, which a reload may change.
 */
function planKey(target: Target, original: ManifestDocument, { platforms }: IndexPolicy): string {
  return `${targetKey(target)} ${original.digest} ${JSON.stringify(platforms)}`;
}
