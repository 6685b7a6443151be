import { isSpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { LayerIndex } from '../../index/layer-index.ts';
import type { RawText } from '../../tar/raw-text.ts';
import { layReads, type OrderedRange, type TouchedFile } from './lay-reads.ts';

// Entry of the worker thread that looks at starts: each export is a task of a `WorkerPool`.

export interface ReadLayer {
  readonly indexPath: string;
  /** The ranges are offsets in the decompressed layer. */
  readonly isTar: boolean;
  readonly reads: readonly OrderedRange[];
}

export interface LayStartInput {
  readonly layers: readonly ReadLayer[];
  /** Paths that the repository's profile has, or that a boot layer served. */
  readonly known: ReadonlySet<RawText>;
}

export interface LaidStart {
  /** In the order of first touch. */
  readonly touched: readonly TouchedFile[];
  /** Known files that the layers have, with their sizes. */
  readonly present: ReadonlyMap<RawText, number>;
  /** Reads that are too large to learn from. */
  readonly coarseReads: number;
  /** Layers whose index is gone or damaged. */
  readonly unknownLayers: number;
}

/** Task: which files of its layers a start has read. Holds the table of contents of one layer at a time. */
export async function layStart({ layers, known }: LayStartInput): Promise<LaidStart> {
  const touched = new Map<RawText, TouchedFile>();
  const present = new Map<RawText, number>();
  let coarseReads = 0;
  let unknownLayers = 0;
  for (const { indexPath, isTar, reads } of layers) {
    const index = await openIndex(indexPath);
    if (index === undefined) {
      unknownLayers++;
      continue;
    }
    const laid = layReads(index, reads, isTar, known);
    coarseReads += laid.coarseReads;
    for (const [path, bytes] of laid.present) present.set(path, bytes);
    for (const file of laid.touched) touched.set(file.path, earlier(touched.get(file.path), file));
  }
  const inOrder = [...touched.values()].toSorted((a, b) => a.order - b.order);
  return { touched: inOrder, present, coarseReads, unknownLayers };
}

/** Layers may have a file at the same path: nodes read that of the upper one. */
function earlier(known: TouchedFile | undefined, found: TouchedFile): TouchedFile {
  if (known === undefined) return found;
  const order = Math.min(known.order, found.order);
  return { ...(known.readShare > found.readShare ? known : found), order };
}

async function openIndex(path: string): Promise<LayerIndex | undefined> {
  try {
    return await LayerIndex.open(path);
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT' || isSpandrelError(error)) return undefined;
    throw error;
  }
}
