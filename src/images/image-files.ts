import { Memo } from '../cache/memo.ts';
import type { Descriptor, Platform } from '../core/descriptor.ts';
import type { Digest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import type { Reference } from '../core/image-name.ts';
import type { LayerIndexes } from '../spans/layer-indexes.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import { type Described, describeRawText, type RawText } from '../ztoc/raw-text.ts';
import type { TocEntry } from '../ztoc/ztoc.ts';
import type { ImageManifests } from './image-manifests.ts';
import type { Layers } from './layers.ts';
import { type ImageManifest, isSound, parseManifest, type StoredManifest } from './manifest.ts';
import type { Manifests } from './manifests.ts';
import { MergedTree, type TreeNode } from './merged-tree.ts';
import type { Target } from './target.ts';

export interface ImageFilesDeps {
  readonly manifests: Manifests;
  readonly images: ImageManifests;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  /** Bytes of merged trees kept in memory. */
  readonly maxBytes: number;
  readonly metrics: Metrics;
}

/** Text that is not UTF-8 has its bytes, percent-encoded, beside it. */
export interface DirectoryEntry extends Described<'name'>, Partial<Described<'linkname'>> {
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

interface ImageTree {
  readonly tree: MergedTree;
  readonly layerDigests: readonly Digest[];
}

const IMPLICIT_DIRECTORY_MODE = 0o755;

/** Finds files in the merged file systems of images. The first question about an image waits for the indexes of all its layers. */
export class ImageFiles {
  readonly #deps: ImageFilesDeps;
  readonly #trees: Memo<ImageTree>;

  constructor(deps: ImageFilesDeps) {
    this.#deps = deps;
    const { metrics, maxBytes } = deps;
    this.#trees = new Memo('index', metrics, { maxBytes, sizeOf: ({ tree }) => tree.memoryBytes });
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
    // The tree may have been built for another repository.
    await Promise.all(
      askable(image).map(({ digest }) => this.#deps.layers.readableLayer(target, digest, signal)),
    );
    const { tree, layerDigests } = await this.#trees.get(
      manifest.digest,
      () => this.#buildTree(target, image),
      signal,
    );
    const found = tree.resolve(path, true);
    if (found.node.children !== undefined) {
      return {
        kind: 'directory',
        listing: {
          ...describeRawText('path', found.path as RawText),
          entries: listDirectory(found.node.children, layerDigests),
        },
      };
    }
    const { entry, layer } = found.node;
    const layerDigest = layer === undefined ? undefined : layerDigests[layer];
    if (entry?.type !== 'reg' || layerDigest === undefined) {
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

  async #buildTree(target: Target, image: ImageManifest): Promise<ImageTree> {
    const layers = askable(image).map(({ digest }) => this.#deps.layers.layer(target, digest));
    const indexes = await Promise.all(layers.map((layer) => this.#deps.indexes.ensure(layer)));
    const tree = new MergedTree();
    for (const index of indexes) tree.addLayer(index.entries());
    return { tree, layerDigests: layers.map(({ digest }) => digest) };
  }
}

/** The layers of an image. @throws SpandrelError LAYER_UNSUPPORTED if one cannot even be asked for */
function askable(image: ImageManifest): Descriptor[] {
  return image.layers.map((layer) => {
    if (isSound(layer)) return layer;
    throw new SpandrelError('LAYER_UNSUPPORTED', `a layer cannot be read: ${layer.fault.message}`);
  });
}

function listDirectory(
  children: ReadonlyMap<string, TreeNode>,
  layerDigests: readonly Digest[],
): DirectoryEntry[] {
  const names = [...children].sort(([a], [b]) => (a < b ? -1 : 1));
  return names.map(([name, { entry, layer }]) => ({
    ...describeRawText('name', name as RawText),
    type: entry?.type ?? 'dir',
    size: entry?.uncompressedSize ?? 0,
    mode: entry?.mode ?? IMPLICIT_DIRECTORY_MODE,
    layer: layer === undefined ? null : (layerDigests[layer] ?? null),
    ...(entry?.type === 'symlink' ? describeRawText('linkname', entry.linkname) : {}),
  }));
}
