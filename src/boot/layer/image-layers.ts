import type { Digest } from '../../core/digest.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { TocEntry } from '../../tar/toc-entry.ts';
import { MergedTree } from '../../tree/merged-tree.ts';
import type { TreeNode, TreeSize } from '../../tree/tree-node.ts';

/** A layer of an image. */
export interface OpenableLayer {
  readonly digest: Digest;
  /** Reads the entries, in archive order. Called twice at most. */
  open(): Promise<Iterable<TocEntry>>;
}

/** The merged file system of an image, and what its layers say about extended attributes of directories. */
export interface ImageLayers {
  readonly root: TreeNode;
  readonly byDigest: ReadonlyMap<Digest, OpenableLayer>;
  readonly hasDirectoryXattrs: boolean;
  /** A directory gives the files that are created in it an access control list. */
  readonly hasDefaultAcls: boolean;
}

const XATTR = 'SCHILY.xattr.';
const DEFAULT_ACL = `${XATTR}system.posix_acl_default` as RawText;

/** Extended attributes by which overlayfs marks directories and files of a layer. */
const OVERLAY_XATTR = /^SCHILY\.xattr\.(?:trusted|user)\.overlay\./;

/** True if overlayfs would take the unpacked entry for something else. */
export function isOverlayMark({ paxRecords }: Pick<TocEntry, 'paxRecords'>): boolean {
  return [...paxRecords.keys()].some((key) => OVERLAY_XATTR.test(key));
}

/**
 * Merges the layers of an image, from the lowest up. Holds the entries of one layer at a time.
 * @throws SpandrelError LAYER_TOO_LARGE; errors of `open`
 */
export async function mergeImageLayers(
  layers: readonly OpenableLayer[],
  maxSize: TreeSize,
): Promise<ImageLayers> {
  const tree = new MergedTree(maxSize);
  const byDigest = new Map<Digest, OpenableLayer>();
  let hasDirectoryXattrs = false;
  let hasDefaultAcls = false;
  function* watched(entries: Iterable<TocEntry>): Generator<TocEntry, void, void> {
    for (const entry of entries) {
      if (entry.type === 'dir') {
        hasDirectoryXattrs ||= [...entry.paxRecords.keys()].some((key) => key.startsWith(XATTR));
        hasDefaultAcls ||= entry.paxRecords.has(DEFAULT_ACL);
      }
      yield entry;
    }
  }
  for (const [place, layer] of layers.entries()) {
    byDigest.set(layer.digest, layer);
    tree.addLayer(layer.digest, watched(await layer.open()), place === layers.length - 1);
  }
  return { root: tree.root, byDigest, hasDirectoryXattrs, hasDefaultAcls };
}
