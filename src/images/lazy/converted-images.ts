import { BoundedMap } from '../../cache/bounded-map.ts';
import type { V2Form } from '../../config/index-rule.ts';
import type { Digest } from '../../core/digest.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { TarsOfImage } from '../../soci/convert-image.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';
import type { ImageManifests } from '../manifests/image-manifests.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import type { BootRecipe } from '../proofs/boot-recipe.ts';
import type { Derivation } from '../proofs/derivation.ts';
import type { Origins } from '../proofs/origins.ts';
import { type ConvertedForm, convertToForm, type IndexedImage } from './convert-to-form.ts';
import type { ImagePlan } from './image-plans.ts';
import type { SociIndexer, SociIndexOfImage } from './soci-indexer.ts';

export interface ConvertedImagesDeps {
  readonly proofs: BlobProofs;
  readonly images: ImageManifests;
  readonly indexer: SociIndexer;
  /** Of the `inflated` form. */
  readonly inflatedIndexer: SociIndexer;
  readonly store: ManifestStore;
  readonly origins: Origins;
}

interface Converted extends ConvertedForm {
  readonly derivation: Derivation;
}

/** Boot layers by the digests of image manifests. */
export type BootLayersOfImages = ReadonlyMap<Digest, BootRecipe>;

export const NO_BOOT_LAYERS: BootLayersOfImages = new Map();

const MAX_REMEMBERED = 10_000;

/** Images in the forms of responses for tags, made from indexes and boot layers that exist. */
export class ConvertedImages {
  readonly #deps: ConvertedImagesDeps;
  /** By {@link convertedKey}. */
  readonly #converted = new BoundedMap<Converted>({ maxEntries: MAX_REMEMBERED });

  constructor(deps: ConvertedImagesDeps) {
    this.#deps = deps;
  }

  /**
   * The converted image if all its indexes exist; the original if there is nothing to index.
   * @param boots boot layers of the image, by manifest
   */
  async convert(
    target: Target,
    plan: ImagePlan,
    form: V2Form,
    boots: BootLayersOfImages,
  ): Promise<ManifestDocument | undefined> {
    const { images, proofs } = this.#deps;
    const indexer = form === 'inflated' ? this.#deps.inflatedIndexer : this.#deps.indexer;
    const settled = await Promise.all(plan.images.map(({ manifest }) => indexer.isSettled(target, manifest)));
    if (settled.includes(false)) return undefined;
    const indexes: IndexedImage[] = [];
    for (const image of plan.images) {
      const found = await indexer.existingV2(target, image.manifest);
      const boot = boots.get(image.manifest.digest);
      if (found !== undefined) indexes.push({ image, index: found.index, tars: tarsOf(found), boot });
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
    const layers = indexes.flatMap(({ index, image }) => [
      ...(proofs.derivationOf(target, index.digest)?.layers ?? []),
      ...(boots.get(image.manifest.digest)?.layers ?? []),
    ]);
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
}

function tarsOf({ layers }: SociIndexOfImage): TarsOfImage {
  return new Map(
    layers.flatMap(({ place, tar }) =>
      tar === undefined ? [] : [[place, { digest: tar.diffId, size: tar.tarBytes }]],
    ),
  );
}

/**
 * A converted image depends on the original, on other manifests of it in the repository, on the form, and on
 * the indexes and boot layers, which stand for the settings that they were built with.
 */
function convertedKey(
  target: Target,
  original: ManifestDocument,
  form: V2Form,
  indexes: readonly IndexedImage[],
): string {
  const pairs = indexes.map(
    ({ image, index, boot }) => `${image.manifest.digest}=${index.digest}+${boot?.layer.digest ?? ''}`,
  );
  return [targetKey(target), original.digest, form, ...pairs].join(' ');
}
