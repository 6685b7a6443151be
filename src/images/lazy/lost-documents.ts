import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { Reference } from '../../core/image-reference.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import { isUpstreamAway } from '../../upstream/faults/is-upstream-away.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import type { DerivedImages } from './derived-images.ts';
import type { Derivation } from '../proofs/derivation.ts';
import type { Layers } from './layers.ts';
import type { StoredManifest } from '../documents/parse-manifest.ts';
import type { FoundManifest, Manifests } from '../manifests/manifests.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';
import type { Origins } from '../proofs/origins.ts';
import type { Target } from '../../upstream/target.ts';

export interface LostDocumentsDeps {
  readonly proofs: BlobProofs;
  readonly manifests: Manifests;
  readonly store: ManifestStore;
  readonly origins: Origins;
  readonly derivedImages: DerivedImages;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
}

/**
 * What the proxy has made of an image and named to somebody, where the store does not have it: this replica has lost it, or another made
 * it. No upstream has it, but its origin has been told, or it comes out the same from an image of the repository.
 */
export class LostDocuments {
  readonly #deps: LostDocumentsDeps;

  constructor(deps: LostDocumentsDeps) {
    this.#deps = deps;
  }

  /** As {@link Manifests.get}, for those that the proxy has made too. */
  get(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    return this.#get(target, reference, true, signal);
  }

  /** As {@link get}, for what something else lists, which may well not be there: nothing is looked for in the repository's images. */
  readonly listed: Pick<Manifests, 'get'> = {
    get: (target, reference, signal) => this.#get(target, reference, false, signal),
  };

  async #get(
    target: Target,
    reference: Reference,
    mayBeSearched: boolean,
    signal: AbortSignal | undefined,
  ): Promise<FoundManifest> {
    try {
      return await this.#deps.manifests.get(target, reference, signal);
    } catch (error) {
      if ('tag' in reference || (!isAbsence(error) && !isUpstreamAway(error))) throw error;
      const isSearched = mayBeSearched && isAbsence(error);
      const manifest = await this.#makeManifest(target, reference.digest, isSearched, signal);
      if (manifest === undefined) throw error;
      return { manifest, source: 'disk' };
    }
  }

  async #makeManifest(
    target: Target,
    digest: Digest,
    isSearched: boolean,
    signal: AbortSignal | undefined,
  ): Promise<StoredManifest | undefined> {
    const { origins, proofs, store, derivedImages } = this.#deps;
    const origin = await origins.find(digest);
    if (origin?.kind === 'image' && (await this.#hasAll(target, origin.derivation, signal))) {
      proofs.rememberDerived(target, digest, origin.derivation);
      await store.tryPut(origin.document);
      return origin.document;
    }
    const isMade =
      (await this.#remake(target, digest, signal)) ||
      (isSearched && (await derivedImages.search(target, digest, signal)));
    return isMade ? store.get(digest) : undefined;
  }

  /** Make all again that came from the image which the repository got this from. @returns false if it is not known, or gone */
  async #remake(target: Target, digest: Digest, signal: AbortSignal | undefined): Promise<boolean> {
    const { proofs, derivedImages } = this.#deps;
    const derivation = proofs.derivationOf(target, digest);
    if (derivation === undefined) return false;
    const image = await this.#image(target, derivation.image, signal);
    if (image !== undefined) await derivedImages.restore(target, image, signal);
    else proofs.forget(target, digest);
    return image !== undefined;
  }

  /** @returns nothing if the repository does not have it @throws SpandrelError if that cannot be told */
  async #image(
    target: Target,
    digest: Digest,
    signal: AbortSignal | undefined,
  ): Promise<StoredManifest | undefined> {
    try {
      return (await this.#deps.manifests.get(target, { digest }, signal)).manifest;
    } catch (error) {
      if (!isAbsence(error)) throw error;
      return undefined;
    }
  }

  /**
   * Make sure that a zTOC is stored, if the proxy makes it of a layer that the repository has.
   * @returns false if it does not
   * @throws SpandrelError as fills and builds do
   */
  async makeZtoc(target: Target, digest: Digest, signal: AbortSignal): Promise<boolean> {
    return (
      (await this.findZtoc(target, digest, signal)) ||
      (await this.#remake(target, digest, signal)) ||
      this.#deps.derivedImages.search(target, digest, signal)
    );
  }

  /** As {@link makeZtoc}, of a layer that is known to be that of the zTOC. */
  async findZtoc(target: Target, digest: Digest, signal: AbortSignal): Promise<boolean> {
    const { origins, layers, indexes } = this.#deps;
    const origin = await origins.find(digest);
    if (origin?.kind === 'layer' && (await this.#hasLayer(target, origin.layer, signal))) {
      const { summary } = await indexes.ensure(
        await layers.authorizedLayer(target, origin.layer, signal),
        signal,
      );
      if (summary.ztoc?.digest === digest) return true;
    }
    return false;
  }

  async #hasLayer(target: Target, layer: Digest, signal: AbortSignal): Promise<boolean> {
    return this.#isThere(() => this.#deps.proofs.authorize(target, layer, signal));
  }

  /** True if the repository has all that something was made of. @throws SpandrelError if that cannot be told */
  async #hasAll(target: Target, derivation: Derivation, signal: AbortSignal | undefined): Promise<boolean> {
    for (const manifest of derivation.manifests)
      if ((await this.#image(target, manifest, signal)) === undefined) return false;
    return this.#isThere(() => this.#deps.proofs.authorizeDerivation(target, derivation, signal));
  }

  async #isThere(check: () => Promise<void>): Promise<boolean> {
    try {
      await check();
      return true;
    } catch (error) {
      if (!isAbsence(error)) throw error;
      return false;
    }
  }
}

function isAbsence(error: unknown): boolean {
  return isSpandrelError(error, 'MANIFEST_UNKNOWN', 'BLOB_UNKNOWN');
}
