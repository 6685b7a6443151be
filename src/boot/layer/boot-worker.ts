import type { MessagePort } from 'node:worker_threads';

import { receiveLayer } from '../../build/send-layer.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { LayerIndex } from '../../index/layer-index.ts';
import { GzipPacker, type Packed } from '../../inflate/gzip-packer.ts';
import type { RawText } from '../../tar/raw-text.ts';
import { TransferredResult } from '../../threads/transferred-result.ts';
import type { TreeSize } from '../../tree/tree-node.ts';
import { type LocatedSpans, locateSpans } from '../prefetch/locate-spans.ts';
import { type Copies, findCopies } from './find-copies.ts';
import { mergeImageLayers } from './image-layers.ts';
import { copyLayerRanges, type Decompression, type LayerFile, readLayerEntries } from './layer-file.ts';

// Entry of the worker thread that makes boot layers and plans prefetches: each export is a task of a
// `WorkerPool`.

interface WantedOfImage {
  /** As {@link findCopies}. */
  readonly wanted: readonly RawText[];
  readonly maxSize: TreeSize;
}

export interface FindTask extends WantedOfImage {
  /** From the lowest up. */
  readonly layers: readonly { readonly digest: Digest; readonly indexPath: string }[];
}

/**
 * Task: see {@link findCopies}. Holds the table of contents of one layer at a time.
 * @throws SpandrelError LAYER_TOO_LARGE, IMAGE_UNSUPPORTED; INDEX_MALFORMED, or the system's ENOENT, if an
 * index is damaged or gone
 */
export async function findInIndexes({ layers, wanted, maxSize }: FindTask): Promise<Copies> {
  const openable = layers.map(({ digest, indexPath }) => ({
    digest,
    open: async () => (await LayerIndex.open(indexPath)).entries(),
  }));
  return findCopies(await mergeImageLayers(openable, maxSize), wanted);
}

export interface FindInFilesTask extends WantedOfImage, Decompression {
  /** From the lowest up. */
  readonly layers: readonly LayerFile[];
}

/**
 * Task: as {@link findInIndexes}, for layers that have no index: each is decompressed once, or twice if
 * something is copied from it.
 */
export async function findInFiles(task: FindInFilesTask): Promise<Copies> {
  const { layers, wanted, maxSize } = task;
  const openable = layers.map((layer) => ({
    digest: layer.digest,
    open: () => readLayerEntries(layer, task),
  }));
  return findCopies(await mergeImageLayers(openable, maxSize), wanted);
}

export interface CopyTask extends Decompression {
  readonly layer: LayerFile;
  /** As {@link copyLayerRanges}. */
  readonly ranges: readonly ByteRange[];
  readonly path: string;
}

/** Task: see {@link copyLayerRanges}. */
export function copyRanges({ layer, ranges, path, ...decompression }: CopyTask): Promise<void> {
  return copyLayerRanges(layer, ranges, path, decompression);
}

export interface PackTask {
  /** Where the tar arrives: see {@link receiveLayer}. */
  readonly port: MessagePort;
  readonly maxBytes: number;
}

/** A compressed boot layer, or how much of its tar became how much more than the limit. */
export type PackOutcome =
  Packed | { readonly bytes: undefined; readonly plainBytes: number; readonly packedBytes: number };

/** Task: compresses the tar of a boot layer. Holds the result, up to the limit. */
export async function packLayer({ port, maxBytes }: PackTask): Promise<TransferredResult<PackOutcome>> {
  try {
    const packer = new GzipPacker();
    for await (const bytes of receiveLayer(port)) {
      packer.write(bytes);
      if (packer.packedBytes > maxBytes) break;
    }
    const { plainBytes } = packer;
    const packed = packer.packedBytes > maxBytes ? undefined : packer.finish();
    const packedBytes = packed?.bytes.length ?? packer.packedBytes;
    return packed === undefined || packedBytes > maxBytes
      ? new TransferredResult({ bytes: undefined, plainBytes, packedBytes }, [])
      : new TransferredResult(packed, [packed.bytes.buffer]);
  } finally {
    port.close();
  }
}

export interface LocateTask {
  readonly ztoc: Uint8Array;
  /** Clean. */
  readonly paths: ReadonlySet<RawText>;
}

/** Task: see {@link locateSpans}. Holds the zTOC and its entries. */
export function locateInZtoc({ ztoc, paths }: LocateTask): LocatedSpans {
  return locateSpans(ztoc, paths);
}
