import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { Reference } from '../../core/image-reference.ts';
import type { FineZtocs } from '../../layers/fine-ztocs.ts';
import type { TarZtocs } from '../../layers/tar-ztocs.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import { isUpstreamAway } from '../../upstream/faults/is-upstream-away.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import type { DerivedImages } from './derived-images.ts';
import type { Derivation } from '../proofs/derivation.ts';
import type { Layers } from './layers.ts';
import type { FoundManifest, Manifests } from '../manifests/manifests.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';
import type { Origin, Origins } from '../proofs/origins.ts';
import type { Target } from '../../upstream/target.ts';

export interface LostDocumentsDeps {
  readonly proofs: BlobProofs;
  readonly manifests: Manifests;
  readonly store: ManifestStore;
  readonly origins: Origins;
  readonly derivedImages: DerivedImages;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly tars: TarZtocs;
  readonly fineZtocs: FineZtocs;
}

/**
 * Finds derived documents that were named to clients but are not in this store: this replica has lost them,
 * or another one made them. Their origin was published, or an image of the repository yields them again.
 */
export class LostDocuments {
  readonly #deps: LostDocumentsDeps;

  constructor(deps: LostDocumentsDeps) {
    this.#deps = deps;
  }

  /** As {@link Manifests.get}, for derived manifests too. */
  get(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    return this.#get(target, reference, true, signal);
  }

  /**
   * As {@link get}, for manifests listed by others, which may not exist: does not search the repository's
   * images.
   */
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
  ): Promise<ManifestDocument | undefined> {
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

  /**
   * Makes everything that came from the image that `digest` was derived from for this repository.
   * @returns false if that image is unknown or gone
   */
  async #remake(target: Target, digest: Digest, signal: AbortSignal | undefined): Promise<boolean> {
    const { proofs, derivedImages } = this.#deps;
    const derivation = proofs.derivationOf(target, digest);
    if (derivation === undefined) return false;
    const image = await this.#image(target, derivation.image, signal);
    if (image !== undefined) await derivedImages.restore(target, image, signal);
    else proofs.forget(target, digest);
    return image !== undefined;
  }

  /**
   * `undefined` if the repository lacks the image.
   * @throws SpandrelError if that is not known
   */
  async #image(
    target: Target,
    digest: Digest,
    signal: AbortSignal | undefined,
  ): Promise<ManifestDocument | undefined> {
    try {
      return (await this.#deps.manifests.get(target, { digest }, signal)).manifest;
    } catch (error) {
      if (!isAbsence(error)) throw error;
      return undefined;
    }
  }

  /**
   * Ensures that a zTOC is stored, if the proxy can make it from a layer that the repository has.
   * @returns false if it cannot
   * @throws SpandrelError of fills and builds
   */
  async makeZtoc(target: Target, digest: Digest, signal: AbortSignal): Promise<boolean> {
    return (
      (await this.findZtoc(target, digest, signal)) ||
      (await this.#remake(target, digest, signal)) ||
      this.#deps.derivedImages.search(target, digest, signal)
    );
  }

  /** As {@link makeZtoc}, if the layer of the zTOC is known: rules may have changed since it was named. */
  async findZtoc(target: Target, digest: Digest, signal: AbortSignal): Promise<boolean> {
    const { layers, indexes, tars, fineZtocs } = this.#deps;
    const origin = await this.#originOf(target, digest);
    if (origin === undefined || !(await this.#hasLayer(target, origin.layer, signal))) return false;
    const layer = await layers.authorizedLayer(target, origin.layer, signal);
    const index = await indexes.ensure(layer, signal);
    const { spanBytes } = origin;
    if (spanBytes === undefined) return index.summary.ztoc?.digest === digest;
    const made = origin.kind === 'tar' ? tars : fineZtocs;
    return (await made.ensure(layer, index, spanBytes, signal)).ztoc?.digest === digest;
  }

  /** What a zTOC was made from, as published, or as the repository was given it. */
  async #originOf(target: Target, ztoc: Digest): Promise<Exclude<Origin, { kind: 'image' }> | undefined> {
    const { origins, proofs } = this.#deps;
    const origin = await origins.find(ztoc);
    if (origin !== undefined && origin.kind !== 'image') return origin;
    const { manifests = [], layers = [] } = proofs.derivationOf(target, ztoc) ?? {};
    const [layer, ...others] = layers;
    if (layer === undefined || manifests.length + others.length > 0) return undefined;
    return { kind: 'layer', layer };
  }

  /**
   * True if the repository has everything that something was made from.
   * @throws SpandrelError if that is not known
   */
  async #hasAll(target: Target, derivation: Derivation, signal: AbortSignal | undefined): Promise<boolean> {
    for (const manifest of derivation.manifests)
      if ((await this.#image(target, manifest, signal)) === undefined) return false;
    return this.#deps.proofs.hasAll(target, derivation, signal);
  }

  async #hasLayer(target: Target, layer: Digest, signal: AbortSignal): Promise<boolean> {
    try {
      await this.#deps.proofs.authorize(target, layer, signal);
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
