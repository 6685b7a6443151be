import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import type { Platform } from '../../core/platform.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { Digest } from '../../core/digest.ts';
import type { Reference } from '../../core/image-reference.ts';
import { isSpandrelError } from '../../core/errors.ts';
import { mapBounded } from '../../core/work/map-bounded.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import { waitFor } from '../../core/wait-for.ts';
import type { LayerIndex } from '../../index/layer-index.ts';
import { layerFault } from '../../index/layer-summary.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { RawText } from '../../tar/raw-text.ts';
import { type DirectoryListing, listDirectory, type PageQuery, shownType } from './directory-listing.ts';
import type { Content, ContentReader } from '../contents/content.ts';
import type { LayerContents } from '../contents/layer-contents.ts';
import type { ImageManifests } from '../manifests/image-manifests.ts';
import type { ImageTree } from './image-tree.ts';
import type { ImageTrees } from './image-trees.ts';
import type { IndexedLayer } from './tree-worker.ts';
import type { Layers } from '../lazy/layers.ts';
import {
  type FaultyDescriptor,
  type ImageManifest,
  isSound,
  parseManifest,
} from '../documents/parse-manifest.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { Target } from '../../upstream/target.ts';
import { targetKey } from '../../upstream/target.ts';
import { faultError, type LayerFault, type TreeEntry } from '../../tree/tree-node.ts';

export interface ImageFilesDeps {
  readonly contents: LayerContents;
  readonly manifests: Pick<Manifests, 'get'>;
  readonly images: ImageManifests;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly trees: ImageTrees;
}

/** Selects an image. */
export interface ImageChoice {
  readonly target: Target;
  readonly reference: Reference;
  readonly platform: Platform | undefined;
}

/** A file or directory of an image, with its content. */
export type OpenedFile =
  | { readonly kind: 'file'; readonly content: Content }
  | { readonly kind: 'directory'; readonly listing: DirectoryListing };

/** The file or directory at a path of an image. */
export type FoundFile =
  | { readonly kind: 'file'; readonly layerDigest: Digest; readonly entry: Omit<TreeEntry, 'mode'> }
  | { readonly kind: 'directory'; readonly listing: DirectoryListing };

/** Layers of one image that are requested or built at the same time. */
const MAX_RUNNING = 8;

/**
 * Finds files in the merged file systems of images. The first request for an image waits for the indexes of
 * all its layers.
 */
export class ImageFiles {
  readonly #deps: ImageFilesDeps;

  constructor(deps: ImageFilesDeps) {
    this.#deps = deps;
  }

  /**
   * As {@link find}, with the content. A file by tag is not immutable, because the tag may move.
   * @throws SpandrelError also as `LayerContents.fileContent`
   */
  async open(
    choice: ImageChoice,
    path: RawText,
    page: PageQuery,
    reader: ContentReader,
  ): Promise<OpenedFile> {
    const found = await this.find(choice, path, page, reader.signal);
    if (found.kind === 'directory') return found;
    const { target, reference } = choice;
    const content = await this.#deps.contents.fileContent(target, found.layerDigest, found.entry, reader);
    return { kind: 'file', content: { ...content, isImmutable: !('tag' in reference) } };
  }

  /**
   * @param page of the listing, if the path leads to a directory
   * @throws SpandrelError FILE_UNKNOWN, FILE_NOT_REGULAR, PLATFORM_UNKNOWN, IMAGE_UNSUPPORTED,
   * LAYER_TOO_LARGE, what manifests and builds throw
   */
  async find(choice: ImageChoice, path: RawText, page: PageQuery, signal: AbortSignal): Promise<FoundFile> {
    const tree = await this.#treeOf(choice, signal);
    const found = tree.resolve(path, true);
    const item = tree.item(found.place);
    if (item.isDirectory) {
      if (item.fault !== undefined) throw faultError(item.fault);
      return { kind: 'directory', listing: await listDirectory(tree, found, page) };
    }
    const { entry, layer: layerDigest } = item;
    if (entry === undefined || shownType(entry) !== 'reg' || layerDigest === undefined) {
      throw new SpandrelError(
        'FILE_NOT_REGULAR',
        `the path is a ${entry?.type ?? 'directory'}, not a regular file`,
      );
    }
    return { kind: 'file', layerDigest, entry };
  }

  async #treeOf({ target, reference, platform }: ImageChoice, signal: AbortSignal): Promise<ImageTree> {
    const { manifest, image } = await this.#selectImage(target, reference, platform, signal);
    const layers = await this.#findLayers(target, image.layers, signal);
    const [lowest] = layers;
    // Repositories of one upstream that have, and lack, the same layers share the tree.
    const missing = lowest !== undefined && 'code' in lowest ? ` ${lowest.code} ${lowest.layer}` : '';
    /** The indexes that the tree is made from. */
    const known = new Map<Digest, { readonly layer: AuthorizedLayer; readonly index: LayerIndex }>();
    return this.#deps.trees.get({
      key: `${target.client.name} ${manifest.digest}${missing}`,
      fairnessKey: targetKey(target),
      readLayers: (abandoned) => this.#readLayers(layers, known, abandoned),
      replaceIndex: async (digest, abandoned) => {
        const damaged = known.get(digest);
        if (damaged !== undefined)
          await waitFor(this.#deps.indexes.replace(damaged.layer, damaged.index), abandoned);
      },
      signal,
    });
  }

  async #selectImage(
    target: Target,
    reference: Reference,
    platform: Platform | undefined,
    signal: AbortSignal,
  ): Promise<{ manifest: ManifestDocument; image: ImageManifest }> {
    const { manifest } = await this.#deps.manifests.get(target, reference, signal);
    const selected = await this.#deps.images.select(target, manifest, platform, signal);
    const image = parseManifest(selected);
    if (image.kind === 'image') return { manifest: selected, image };
    throw new SpandrelError('IMAGE_UNSUPPORTED', 'the manifest is listed as an image and is an index');
  }

  /**
   * The layers that the repository has, from the lowest up. Layers below a missing one cannot show, so they
   * are not requested, and the missing one comes first.
   * @throws SpandrelError as `Layers.readableLayer`
   */
  async #findLayers(
    target: Target,
    listed: readonly (Descriptor | FaultyDescriptor)[],
    signal: AbortSignal,
  ): Promise<(AuthorizedLayer | LayerFault)[]> {
    const find = async (descriptor: Descriptor | FaultyDescriptor): Promise<AuthorizedLayer | LayerFault> => {
      if (!isSound(descriptor)) return { layer: descriptor.digest, ...descriptor.fault };
      try {
        return await this.#deps.layers.readableLayer(target, descriptor.digest, signal);
      } catch (error) {
        if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
        return { layer: descriptor.digest, code: error.code, message: error.message };
      }
    };
    return fromTop(listed, find, signal);
  }

  /** The index files of the layers, built if missing. The first may be a layer whose content is unknown. */
  #readLayers(
    layers: readonly (AuthorizedLayer | LayerFault)[],
    known: Map<Digest, { readonly layer: AuthorizedLayer; readonly index: LayerIndex }>,
    abandoned: AbortSignal,
  ): Promise<(IndexedLayer | LayerFault)[]> {
    const { indexes } = this.#deps;
    const read = async (layer: AuthorizedLayer | LayerFault): Promise<IndexedLayer | LayerFault> => {
      if ('code' in layer) return layer;
      const { digest } = layer;
      try {
        const index = await indexes.ensure(layer, abandoned);
        known.set(digest, { layer, index });
        const fault = layerFault(index.summary);
        return fault === undefined
          ? { digest, indexPath: indexes.filePath(digest) }
          : { layer: digest, ...fault };
      } catch (error) {
        if (!isSpandrelError(error, 'LAYER_CORRUPT', 'LAYER_UNSUPPORTED', 'LAYER_TOO_LARGE')) throw error;
        return { layer: digest, code: error.code, message: error.message };
      }
    };
    return fromTop(layers, read, abandoned);
  }
}

/** Applies `work` from the topmost layer down to the first fault. The result starts with the lowest layer. */
async function fromTop<T, R extends object>(
  layers: readonly T[],
  work: (layer: T) => Promise<R | LayerFault>,
  signal: AbortSignal,
): Promise<(R | LayerFault)[]> {
  const isLast = (result: R | LayerFault): boolean => 'code' in result;
  const done = await mapBounded(layers.toReversed(), work, { maxRunning: MAX_RUNNING, signal, isLast });
  return done.toReversed();
}
