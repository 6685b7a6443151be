import { KeyedAllowances } from '../../cache/keyed-allowances.ts';
import { SingleFlight } from '../../cache/single-flight.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Digest } from '../../core/digest.ts';
import type { Events } from '../../telemetry/events.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import type { IndexPolicies } from './index-policy.ts';
import type { KnownLayers } from '../documents/known-layers.ts';
import type { LazyImages } from './lazy-images.ts';
import { parseManifest, tryParseManifest } from '../documents/parse-manifest.ts';
import type { Manifests } from '../manifests/manifests.ts';
import { Attempts } from '../manifests/attempts.ts';
import type { RepositoryTags } from '../manifests/repository-tags.ts';
import type { TarLayers } from './tar-layers.ts';
import type { SociIndexer } from './soci-indexer.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface DerivedImagesDeps {
  readonly proofs: BlobProofs;
  readonly manifests: Manifests;
  readonly knownLayers: KnownLayers;
  readonly indexer: SociIndexer;
  /** Of the `inflated` form. */
  readonly inflatedIndexer: SociIndexer;
  readonly tarLayers: TarLayers;
  readonly lazyImages: LazyImages;
  readonly policies: IndexPolicies;
  readonly tags: RepositoryTags;
  readonly events: Events;
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number;
}

const MAX_REPOSITORIES = 10_000;
/** Images of a search that are fetched and indexed. */
const MAX_BUILT = 4;
/** Per repository. */
const SEARCHES_PER_SECOND = 10;

/** Makes derived documents again: the same image always yields the same bytes. */
export class DerivedImages {
  readonly #deps: DerivedImagesDeps;
  readonly #restores: SingleFlight<void>;
  readonly #searches: SingleFlight<boolean>;
  readonly #allowances: KeyedAllowances;

  constructor(deps: DerivedImagesDeps) {
    this.#deps = deps;
    const [perSecond, maxKeys] = [SEARCHES_PER_SECOND, MAX_REPOSITORIES];
    this.#allowances = new KeyedAllowances({ perSecond, maxKeys, nowMs: deps.now });
    this.#restores = new SingleFlight('index', deps.events);
    this.#searches = new SingleFlight('index', deps.events);
  }

  /**
   * Makes everything that is derived from an image.
   * @throws SpandrelError of fills and builds
   */
  async restore(target: Target, image: ManifestDocument, signal?: AbortSignal): Promise<void> {
    const key = `${targetKey(target)} ${image.digest}`;
    await this.#restores.run(key, () => this.#restoreAll(target, image), signal);
  }

  async #restoreAll(target: Target, image: ManifestDocument): Promise<void> {
    const { indexer, inflatedIndexer, tarLayers, lazyImages } = this.#deps;
    const planned = (await lazyImages.planned(target, image)).map(({ manifest }) => manifest);
    // An image manifest is indexed even if only an image index knew its platform.
    const manifests = parseManifest(image).kind === 'image' ? [image] : planned;
    const indexers = tarLayers.mayHaveTars(target) ? [indexer, inflatedIndexer] : [indexer];
    await Promise.all(manifests.flatMap((manifest) => indexers.map((one) => one.restore(target, manifest))));
    await lazyImages.restore(target, image);
  }

  /**
   * Makes everything derived from the images that the repository's tags name, until `digest` is found: first
   * from tags that clients have requested, and from at most a few images that are not indexed yet.
   * @returns false if it is not found, or if there are too many searches
   * @throws SpandrelError if an image that may lead to it cannot be processed now
   */
  search(target: Target, digest: Digest, signal?: AbortSignal): Promise<boolean> {
    const key = `${targetKey(target)} ${digest}`;
    return this.#searches.run(key, () => this.#search(target, digest), signal);
  }

  async #search(target: Target, digest: Digest): Promise<boolean> {
    const { policies, knownLayers, lazyImages } = this.#deps;
    const { v1, v2 } = policies.of(target);
    if (
      (!v1 && !v2) ||
      knownLayers.get(target, digest) !== undefined ||
      !this.#allowances.take(targetKey(target))
    )
      return false;
    const attempts = new Attempts();
    const unindexed: ManifestDocument[] = [];
    for (const tag of await this.#deps.tags.of(target, attempts)) {
      const isFound = await attempts.run(async () => {
        const image = await this.#imageOf(target, tag);
        if (image === undefined) return false;
        if (await lazyImages.isConvertible(target, image)) return this.#isDerivedFrom(target, digest, image);
        unindexed.push(image);
        return false;
      });
      if (isFound === true) return true;
    }
    for (const image of unindexed.slice(0, MAX_BUILT))
      if ((await attempts.run(() => this.#isDerivedFrom(target, digest, image))) === true) return true;
    attempts.throwIfPassing();
    return false;
  }

  async #isDerivedFrom(target: Target, digest: Digest, image: ManifestDocument): Promise<boolean> {
    await this.restore(target, image);
    return this.#deps.proofs.derivationOf(target, digest) !== undefined;
  }

  async #imageOf(target: Target, tag: string): Promise<ManifestDocument | undefined> {
    const { manifest } = await this.#deps.manifests.get(target, { tag });
    return tryParseManifest(manifest) === undefined ? undefined : manifest;
  }
}
