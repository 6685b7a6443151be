import { BoundedMap } from '../../cache/bounded-map.ts';
import { Memo } from '../../cache/memo.ts';
import type { RetryPauses } from '../../cache/passing-faults.ts';
import { V2_FORMS, type V2Form } from '../../config/index-rule.ts';
import type { Descriptor } from '../../core/descriptor.ts';
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
import { parseManifest, type StoredManifest, tryParseManifest } from '../documents/parse-manifest.ts';
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
  /** Before what the upstream does not have of an image is asked for again. */
  readonly pauses: RetryPauses;
  readonly events: Events;
  readonly logger: Logger;
}

/** What of a tag's request decides about the answer. */
export interface TagRequest {
  readonly userAgent: string;
  /** All `Accept` lines. */
  readonly accept: string;
  /** The client has found the proxy as a mirror (`?ns=`). */
  readonly isMirrored: boolean;
  /** The upstream does not answer, so what it would have to be asked for the answer is not waited for. */
  readonly isStale: boolean;
}

/** What is to be converted of an image. */
interface Plan {
  readonly original: StoredManifest;
  /** The image manifests that get an index; none if the image stays as it is. */
  readonly images: readonly PlatformManifest[];
  /** The registry has all that was looked for; what is missing may come. */
  readonly isComplete: boolean;
}

interface Converted extends ConvertedForm {
  readonly derivation: Derivation;
}

const MAX_REMEMBERED = 10_000;
/** For what is in memory or on disk. */
const STALE_WAIT_MS = 200;

/**
 * What a tag answers: the image as it is, or with SOCI v2 indexes. Which it is depends on the image, the configuration and on
 * whether the layers have been indexed, on nothing else: all replicas answer the same digest.
 */
export class LazyImages {
  readonly #deps: LazyImagesDeps;
  /** By {@link planKey}: what could be indexed. Whether its publisher has pushed an index is asked each time. */
  readonly #candidates: Memo<Plan>;
  /** By all that they were made by: what else of the image has gone into them, each repository has to have. */
  readonly #converted = new BoundedMap<Converted>({ maxEntries: MAX_REMEMBERED });

  constructor(deps: LazyImagesDeps) {
    this.#deps = deps;
    const bound = { maxEntries: MAX_REMEMBERED };
    const isFinal = ({ isComplete }: Plan): boolean => isComplete;
    this.#candidates = new Memo('index', deps.events, bound, { isFinal, pauses: deps.pauses });
  }

  /**
   * The answer to a request for a tag that points to `original`. A client that can be lazy starts the indexing, and waits for it
   * when it is expected to end in time. `signal` ends the waiting, not the work.
   */
  async answer(
    target: Target,
    original: StoredManifest,
    request: TagRequest,
    signal: AbortSignal,
  ): Promise<StoredManifest> {
    const policy = this.#deps.policies.of(target);
    const form = policy.v2Form ?? (request.isMirrored ? 'mirror' : 'lean');
    if (!policy.v2 || !acceptsOci(request.accept)) return original;
    using limit = request.isStale ? new TimeLimit(STALE_WAIT_MS) : undefined;
    try {
      const choosing = this.#choose(target, original, form, { request, policy, signal });
      return await waitFor(choosing, limit === undefined ? signal : limit.with(signal));
    } catch (error) {
      if (limit?.isOver === true && error === limit.signal.reason) return original;
      // The image can be pulled all the same.
      if (!isSpandrelError(error) || signal.aborted) throw error;
      this.#deps.logger.warn({ manifest: original.digest, code: error.code }, 'image served without index');
      return original;
    }
  }

  async #choose(
    target: Target,
    original: StoredManifest,
    form: V2Form,
    { request, policy, signal }: { request: TagRequest; policy: IndexPolicy; signal: AbortSignal },
  ): Promise<StoredManifest> {
    const isLazy = policy.lazyClients.some((start) => request.userAgent.startsWith(start));
    const planning = isLazy
      ? this.#plan(target, original, policy)
      : this.#planIfIndexed(target, original, policy);
    const work = isLazy ? this.#start(target, planning) : undefined;
    const plan = await waitFor(planning, signal);
    if (plan.images.length === 0) return original;
    if (work !== undefined && !(await this.#isCurrent(target, plan)))
      return this.#hold(target, plan, form, work, policy, signal);
    return (await this.#finished(target, plan, form)) ?? original;
  }

  /** Index manifests, all at once. @throws SpandrelError of a fill that failed */
  async index(target: Target, images: readonly PlatformManifest[]): Promise<void> {
    await Promise.all(images.map(({ manifest }) => this.#deps.indexer.sociIndex(target, manifest, 'v2')));
  }

  /**
   * As {@link index}, for those who know that something has changed: nothing is held against the images. `signal` ends the waiting, not
   * the work.
   */
  async indexAnew(target: Target, images: readonly PlatformManifest[], signal: AbortSignal): Promise<void> {
    const indexing = images.map(({ manifest }) => this.#deps.indexer.restore(target, manifest));
    await waitFor(Promise.all(indexing), signal);
  }

  /** The manifests of an image whose indexes its tags will answer with, each to be given to {@link index}. */
  async planned(
    target: Target,
    original: StoredManifest,
    platforms?: IndexPolicy['platforms'],
    signal?: AbortSignal,
  ): Promise<readonly PlatformManifest[]> {
    const policy = this.#deps.policies.of(target);
    const wanted = platforms === undefined ? policy : { ...policy, platforms };
    return (await this.#makePlan(target, original, wanted, signal)).images;
  }

  /** Make again, as far as the layers are indexed, what an image's tags have answered in any form, and the store has lost. */
  async restore(target: Target, original: StoredManifest): Promise<void> {
    // Whether its publisher has pushed an index since is not asked: what has been named is named.
    const plan = await this.#candidatesOf(target, original, this.#deps.policies.of(target));
    if (plan.images.length === 0) return;
    for (const form of V2_FORMS) await this.#finished(target, plan, form);
  }

  /** Whether an image can be answered with its indexes without building any. */
  async isIndexed(target: Target, original: StoredManifest): Promise<boolean> {
    return this.#isCurrent(
      target,
      await this.#candidatesOf(target, original, this.#deps.policies.of(target)),
    );
  }

  /** Start everything. It goes on when the client that asked has left. */
  #start(target: Target, planning: Promise<Plan>): Promise<void> {
    const work = planning.then(({ images }) => this.index(target, images));
    // Nobody waits for it if it takes too long; layers remember their failures.
    work.catch(() => undefined);
    return work;
  }

  async #isCurrent(target: Target, { images }: Plan): Promise<boolean> {
    const { indexer } = this.#deps;
    return (await Promise.all(images.map(({ manifest }) => indexer.isCurrent(target, manifest)))).every(
      Boolean,
    );
  }

  /** The answer after the work, if that ends in time; else what can be answered without. */
  async #hold(
    target: Target,
    plan: Plan,
    form: V2Form,
    work: Promise<void>,
    policy: IndexPolicy,
    signal: AbortSignal,
  ): Promise<StoredManifest> {
    const { indexer, forecast, layers } = this.#deps;
    const missing = plan.images.flatMap(({ manifest }) => indexer.eligible(target, manifest));
    const left = await layers.unindexedBytes(missing);
    using deadline = new TimeLimit(forecast.estimateMs(left) > policy.holdMs ? 0 : policy.holdMs);
    try {
      await waitFor(work, deadline.with(signal));
    } catch (error) {
      if (signal.aborted) throw error;
      const finished = await this.#finished(target, plan, form);
      if (finished === undefined && !deadline.isOver) throw error;
      return finished ?? plan.original;
    }
    return (await this.#finished(target, plan, form)) ?? plan.original;
  }

  /** The converted image, if all its indexes are there; the original if it turned out that there is nothing to index. */
  async #finished(target: Target, plan: Plan, form: V2Form): Promise<StoredManifest | undefined> {
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
    if (known !== undefined) return this.#give(target, known);
    const read = new Set([plan.original.digest, ...indexes.map(({ image }) => image.manifest.digest)]);
    const noting = (found: StoredManifest | undefined): StoredManifest | undefined => {
      if (found !== undefined) read.add(found.digest);
      return found;
    };
    const made = await convertToForm(form, plan.original, indexes, {
      async walk(index) {
        const content = await images.walk(target, index);
        content.indexes.forEach(noting);
        return content;
      },
      read: async (listed) => noting(await images.read(target, listed)),
    });
    const layers = indexes.flatMap(({ index }) => proofs.derivationOf(target, index.digest)?.layers ?? []);
    const derivation = { image: plan.original.digest, manifests: [...read], layers: [...new Set(layers)] };
    const converted = { ...made, derivation };
    if (converted.isComplete) this.#converted.set(key, converted);
    return this.#give(target, converted);
  }

  /**
   * Whoever may have what an image was converted from may have the image, and what it leads to, which is there before the answer is.
   * @throws SpandrelError STORE_FULL, STORE_FAILED
   */
  async #give(target: Target, { top, others, derivation }: Converted): Promise<StoredManifest> {
    const { store, proofs, origins } = this.#deps;
    for (const document of [...others, top]) {
      // What stays as it is, is the registry's own.
      if (derivation.manifests.includes(document.digest)) continue;
      await origins.tell(document.digest, () => ({ kind: 'image', derivation, document }));
      if (!(await store.has(document.digest))) await store.put(document);
      proofs.rememberDerived(target, document.digest, derivation);
    }
    return top;
  }

  async #plan(target: Target, original: StoredManifest, policy: IndexPolicy): Promise<Plan> {
    const plan = await this.#candidatesOf(target, original, policy);
    const pushed = await Promise.all(
      plan.images.map(({ manifest }) => this.#deps.pushed.isPushed(target, manifest)),
    );
    // What its publisher has indexed is served with the publisher's index.
    return pushed.includes(true) ? { ...plan, images: [] } : plan;
  }

  #candidatesOf(target: Target, original: StoredManifest, policy: IndexPolicy): Promise<Plan> {
    const key = planKey(target, original, policy);
    return this.#candidates.get(key, () => this.#makePlan(target, original, policy));
  }

  /** What is not indexed is answered as it is: whether its publisher has pushed an index need not be known for that. */
  async #planIfIndexed(target: Target, original: StoredManifest, policy: IndexPolicy): Promise<Plan> {
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
    original: StoredManifest,
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

/** Clients that list what they take without OCI's types get what the upstream has. */
function acceptsOci(accept: string): boolean {
  const types = accept.split(',').map((type) => type.split(';', 1)[0]?.trim());
  return types.includes(MEDIA_TYPES.ociIndex) && types.includes(MEDIA_TYPES.ociManifest);
}

/**
 * A converted image depends on the original, what else the repository has of it, the form, and the indexes that it names; they stand for
 * the settings they were made by.
 */
function convertedKey(
  target: Target,
  original: StoredManifest,
  form: V2Form,
  indexes: readonly { readonly image: PlatformManifest; readonly index: Descriptor }[],
): string {
  const pairs = indexes.map(({ image, index }) => `${image.manifest.digest}=${index.digest}`);
  return [targetKey(target), original.digest, form, ...pairs].join(' ');
}

/** A plan depends on the repository, the image, and on what of the policy it has been made by: rules can be reloaded. */
function planKey(target: Target, original: StoredManifest, { platforms }: IndexPolicy): string {
  return `${targetKey(target)} ${original.digest} ${JSON.stringify(platforms)}`;
}
