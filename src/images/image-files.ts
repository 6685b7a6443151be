import { Memo } from '../cache/memo.ts';
import type { Descriptor, Platform } from '../core/descriptor.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { Reference } from '../core/image-name.ts';
import type { HeldLayer } from '../spans/layer.ts';
import type { LayerIndexes } from '../spans/layer-indexes.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { LayerIndex } from '../ztoc/layer-index.ts';
import { layerFault } from '../ztoc/layer-summary.ts';
import { type Described, describeRawText, type RawText } from '../ztoc/raw-text.ts';
import type { TocEntry } from '../ztoc/ztoc.ts';
import type { ImageManifests } from './image-manifests.ts';
import type { Layers } from './layers.ts';
import {
  type FaultyDescriptor,
  type ImageManifest,
  isSound,
  parseManifest,
  type StoredManifest,
} from './manifest.ts';
import type { Manifests } from './manifests.ts';
import { MergedTree } from './merged-tree.ts';
import type { Target } from './target.ts';
import { faultError, type LayerFault, type TreeNode } from './tree-node.ts';

export interface ImageFilesDeps {
  readonly manifests: Pick<Manifests, 'get'>;
  readonly images: ImageManifests;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  /** Bytes of merged trees kept in memory. */
  readonly maxBytes: number;
  readonly metrics: Metrics;
}

/** Text that is not UTF-8 has its bytes, percent-encoded, beside it. */
export interface DirectoryEntry extends Described<'name'>, Partial<Described<'linkname'>> {
  /** The symbolic link leads to nothing in this image, or in a circle. */
  readonly dangling?: boolean;
  readonly type: string;
  readonly size: number;
  readonly mode: number;
  /** The layer it comes from; null for a directory that no layer has an entry for. */
  readonly layer: Digest | null;
}

export interface DirectoryListing extends Described<'path'> {
  readonly entries: readonly DirectoryEntry[];
}

/** What stands at a path of an image. */
export type FoundFile =
  | { readonly kind: 'file'; readonly layerDigest: Digest; readonly entry: TocEntry }
  | { readonly kind: 'directory'; readonly listing: DirectoryListing };

const IMPLICIT_DIRECTORY_MODE = 0o755;
/** Names that are looked at to tell which links of a directory lead to nothing. */
const MAX_LINK_STEPS = 1_000_000;
/** What unpackers take of a mode. */
const PERMISSIONS = 0o7777;

/** Finds files in the merged file systems of images. The first question about an image waits for the indexes of all its layers. */
export class ImageFiles {
  readonly #deps: ImageFilesDeps;
  readonly #trees: Memo<MergedTree>;

  constructor(deps: ImageFilesDeps) {
    this.#deps = deps;
    const { metrics, maxBytes } = deps;
    this.#trees = new Memo('index', metrics, { maxBytes, sizeOf: (tree) => tree.memoryBytes });
  }

  /** @throws SpandrelError FILE_UNKNOWN, FILE_NOT_REGULAR, PLATFORM_UNKNOWN, IMAGE_UNSUPPORTED, what manifests and builds throw */
  async find(
    target: Target,
    reference: Reference,
    platform: Platform | undefined,
    path: RawText,
    signal: AbortSignal,
  ): Promise<FoundFile> {
    const { manifest, image } = await this.#selectImage(target, reference, platform, signal);
    const layers = await Promise.all(image.layers.map((layer) => this.#findLayer(target, layer, signal)));
    // The tree may be that of another repository of the upstream, which has the same layers and lacks the same.
    const missing = layers.filter((layer) => 'code' in layer).map(({ code, layer }) => `${code} ${layer}`);
    const key = [target.client.name, manifest.digest, ...missing].join(' ');
    const tree = await this.#trees.get(key, () => this.#buildTree(layers), signal);
    const found = tree.resolve(path, true);
    if (found.node.children !== undefined) {
      if (found.node.fault !== undefined) throw faultError(found.node.fault);
      return {
        kind: 'directory',
        listing: {
          ...describeRawText('path', found.path as RawText),
          entries: listDirectory(tree, found.path, found.node.children),
        },
      };
    }
    const { entry, layer: layerDigest } = found.node;
    if (entry === undefined || shownType(entry) !== 'reg' || layerDigest === undefined) {
      throw new SpandrelError(
        'FILE_NOT_REGULAR',
        `the path is a ${entry?.type ?? 'directory'}, not a regular file`,
      );
    }
    return { kind: 'file', layerDigest, entry };
  }

  async #selectImage(
    target: Target,
    reference: Reference,
    platform: Platform | undefined,
    signal: AbortSignal,
  ): Promise<{ manifest: StoredManifest; image: ImageManifest }> {
    const { manifest } = await this.#deps.manifests.get(target, reference, signal);
    const selected = await this.#deps.images.select(target, manifest, platform, signal);
    const image = parseManifest(selected);
    if (image.kind === 'image') return { manifest: selected, image };
    throw new SpandrelError('IMAGE_UNSUPPORTED', 'the manifest is listed as an image and is an index');
  }

  async #buildTree(layers: readonly (HeldLayer | LayerFault)[]): Promise<MergedTree> {
    const contents = await Promise.all(layers.map((layer) => this.#readLayer(layer)));
    const tree = new MergedTree();
    for (const content of contents) {
      if (content instanceof LayerIndex) tree.addLayer(content.summary.layerDigest, content.entries());
      else tree.addUnreadableLayer(content);
    }
    tree.complete();
    return tree;
  }

  /** A layer as the repository has it; what it does not have costs that layer only. @throws SpandrelError as `Layers.heldLayer` */
  async #findLayer(
    target: Target,
    descriptor: Descriptor | FaultyDescriptor,
    signal: AbortSignal,
  ): Promise<HeldLayer | LayerFault> {
    if (!isSound(descriptor)) return { layer: descriptor.digest, ...descriptor.fault };
    try {
      return await this.#deps.layers.heldLayer(target, descriptor.digest, signal);
    } catch (error) {
      if (!isSpandrelError(error, 'BLOB_UNKNOWN')) throw error;
      return { layer: descriptor.digest, code: error.code, message: error.message };
    }
  }

  /** The index of a layer, or why nobody can know what all is in it. */
  async #readLayer(layer: HeldLayer | LayerFault): Promise<LayerIndex | LayerFault> {
    if ('code' in layer) return layer;
    try {
      const index = await this.#deps.indexes.ensure(layer);
      const fault = layerFault(index.summary);
      return fault === undefined ? index : { layer: layer.digest, ...fault };
    } catch (error) {
      if (!isSpandrelError(error, 'LAYER_CORRUPT', 'LAYER_UNSUPPORTED', 'LAYER_TOO_LARGE')) throw error;
      return { layer: layer.digest, code: error.code, message: error.message };
    }
  }
}

/** As it is when it is unpacked. */
function shownType({ type }: TocEntry): string {
  return type === 'sparse' ? 'reg' : type;
}

/** @param path  of the directory */
function listDirectory(
  tree: MergedTree,
  path: string,
  children: ReadonlyMap<string, TreeNode>,
): DirectoryEntry[] {
  const names = [...children].sort(([a], [b]) => (a < b ? -1 : 1));
  const budget = { steps: MAX_LINK_STEPS };
  return names.map(([name, { entry, layer, fault }]) => ({
    ...describeRawText('name', name as RawText),
    type: entry === undefined ? (fault === undefined ? 'dir' : 'unknown') : shownType(entry),
    size: entry?.uncompressedSize ?? 0,
    mode: (entry?.mode ?? IMPLICIT_DIRECTORY_MODE) & PERMISSIONS,
    layer: layer ?? null,
    ...(entry?.type === 'symlink'
      ? {
          ...describeRawText('linkname', entry.linkname),
          ...(tree.isDangling(`${path}/${name}` as RawText, budget) === true ? { dangling: true } : {}),
        }
      : {}),
  }));
}
