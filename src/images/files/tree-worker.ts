import type { Digest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { TransferredResult } from '../../threads/transferred-result.ts';
import { LayerIndex } from '../../index/layer-index.ts';
import { MergedTree } from '../../tree/merged-tree.ts';
import { type PackedTree, packTree } from './pack-tree.ts';
import type { LayerFault, TreeSize } from '../../tree/tree-node.ts';

// Entry of the worker thread that merges the layers of images: each export is a task of a `WorkerPool`.

/** A layer whose index is stored. */
export interface IndexedLayer {
  readonly digest: Digest;
  readonly indexPath: string;
}

export interface MergeLayersInput {
  /** From the lowest up: index files, or why the files of a layer are unknown. */
  readonly layers: readonly (IndexedLayer | LayerFault)[];
  readonly maxSize: TreeSize;
}

/**
 * Task: the merged file system of an image. Holds the tree, and the table of contents of one layer at a time.
 * @throws SpandrelError LAYER_TOO_LARGE; INDEX_MALFORMED, with `layer` and `isGone` in its detail, if the
 * index file of a layer is damaged or gone
 */
export async function mergeLayers({
  layers,
  maxSize,
}: MergeLayersInput): Promise<TransferredResult<PackedTree>> {
  const tree = new MergedTree(maxSize);
  for (const [place, layer] of layers.entries()) {
    if ('code' in layer) tree.addUnreadableLayer(layer);
    else {
      const index = await openIndex(layer);
      tree.addLayer(layer.digest, index.entries(), place === layers.length - 1);
    }
  }
  const packed = packTree(tree.root);
  return new TransferredResult(packed, [packed.records.buffer, packed.texts.buffer]);
}

async function openIndex({ digest, indexPath }: IndexedLayer): Promise<LayerIndex> {
  try {
    return await LayerIndex.open(indexPath);
  } catch (error) {
    const isGone = nodeErrorCode(error) === 'ENOENT';
    if (!isGone && !isSpandrelError(error, 'INDEX_MALFORMED')) throw error;
    const message = `the index of a layer is ${isGone ? 'gone' : 'damaged'}`;
    throw new SpandrelError('INDEX_MALFORMED', message, { cause: error, detail: { layer: digest, isGone } });
  }
}
