import type { Digest } from '../../core/digest.ts';
import { type ErrorCode, SpandrelError } from '../../core/errors.ts';
import type { TocEntry } from '../../tar/toc-entry.ts';
import { ChildNodes } from './child-nodes.ts';

/** A layer, or an entry of it, that no node can unpack. */
export interface LayerFault {
  /** Digest, as the manifest has it. */
  readonly layer: string;
  readonly code: ErrorCode;
  readonly message: string;
}

/** What of an entry the merged file system shows, and what its bytes are read by. */
export type TreeEntry = Pick<
  TocEntry,
  'type' | 'mode' | 'linkname' | 'uncompressedOffset' | 'uncompressedSize' | 'sparseMap'
>;

/** What stands at a path, in one layer or in the merged file system. */
export interface TreeNode {
  /** The layer that the metadata comes from; `undefined` for a directory that no layer has an entry for. */
  layer: Digest | undefined;
  entry: TreeEntry | undefined;
  /** Present on directories. */
  readonly children: ChildNodes | undefined;
  /** Of a directory in a layer's own tree: what lower layers have in it does not show. */
  isOpaque?: boolean;
  /** What cannot be told: of a directory, whatever is not among its children; of anything else, all. */
  fault?: LayerFault;
}

/** Names of lower layers that do not show. Its own object, never changed: hard links to it are whiteouts too. */
export const WHITEOUT: TreeNode = Object.freeze({ layer: undefined, entry: undefined, children: undefined });

/** A directory that no layer has an entry for. */
export function implicitDirectory(fault?: LayerFault): TreeNode & { children: ChildNodes } {
  return {
    layer: undefined,
    entry: undefined,
    children: new ChildNodes(),
    ...(fault === undefined ? {} : { fault }),
  };
}

/** The error of whoever asks for what is not known because of `fault`. */
export function faultError({ layer, code, message }: LayerFault): SpandrelError {
  return new SpandrelError(code, `layer ${layer} cannot be unpacked: ${message}`, { detail: { layer } });
}

/** How large trees may become. */
export interface TreeSize {
  /** Memory of files and directories. An archive of deep paths makes thousands of directories with each of its files. */
  readonly bytes: number;
  /** Segments of symbolic links that are followed, and names that opaque whiteouts pass over, while layers are unpacked. */
  readonly steps: number;
}

/** About what the process grows by for a node without entry, for the entry, and for the map of a directory's second child. */
const NODE_BYTES = 250;
const ENTRY_BYTES = 180;
const MAP_BYTES = 400;

/** Counts what is spent of a {@link TreeSize}. */
export class TreeBudget {
  bytes = 0;
  steps = 0;
  readonly #max: TreeSize;

  constructor(max: TreeSize) {
    this.#max = max;
  }

  /** A node is about to be put into a directory. */
  countNode(name: string, { entry }: TreeNode, siblings: ChildNodes): void {
    this.bytes += NODE_BYTES + name.length + (siblings.size === 1 ? MAP_BYTES : 0);
    if (entry !== undefined)
      this.bytes += ENTRY_BYTES + entry.linkname.length + (entry.sparseMap?.length ?? 0);
  }

  /** @throws SpandrelError LAYER_TOO_LARGE for more directories or links than an image can be meant to have */
  check(): void {
    if (this.bytes > this.#max.bytes || this.steps > this.#max.steps)
      throw new SpandrelError(
        'LAYER_TOO_LARGE',
        'the layers of the image have too many files, directories or links to be merged',
      );
  }
}
