import type { Digest } from '../core/digest.ts';
import { type ErrorCode, SpandrelError } from '../core/errors.ts';
import type { TocEntry } from '../tar/toc-entry.ts';
import { ChildNodes } from './child-nodes.ts';

/** A layer, or an entry of it, that nodes cannot unpack. */
export interface LayerFault {
  /** Digest, as in the manifest. */
  readonly layer: string;
  readonly code: ErrorCode;
  readonly message: string;
}

/** The parts of an entry that the merged file system shows or reads by. */
export type TreeEntry = Pick<
  TocEntry,
  'type' | 'mode' | 'linkname' | 'uncompressedOffset' | 'uncompressedSize' | 'sparseMap'
>;

/** A node of one layer or of the merged file system. */
export interface TreeNode {
  /** The layer that has the metadata; `undefined` for a directory that is only implied. */
  layer: Digest | undefined;
  entry: TreeEntry | undefined;
  /** Present on directories. */
  readonly children: ChildNodes | undefined;
  /** For a directory in a layer's own tree: hides the content of lower layers. */
  isOpaque?: boolean;
  /** For a file: entries of its layer that gave it another name, and its metadata. */
  links?: number;
  /**
   * For a directory: its layer had it before the entry, which replaced the metadata but for extended
   * attributes.
   */
  isRepeated?: boolean;
  /**
   * Why something is unknown: for a directory, any name that is not among its children; otherwise the node
   * itself.
   */
  fault?: LayerFault;
}

/**
 * Hides a name of lower layers. Compared by identity and never modified: a hard link to it is a whiteout too.
 */
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

/** The error for a request that cannot be answered because of `fault`. */
export function faultError({ layer, code, message }: LayerFault): SpandrelError {
  return new SpandrelError(code, `layer ${layer} cannot be unpacked: ${message}`, { detail: { layer } });
}

/** Limits of trees. */
export interface TreeSize {
  /** Memory of files and directories. With deep paths, each file may create thousands of directories. */
  readonly bytes: number;
  /**
   * Segments of followed symbolic links, and names that opaque whiteouts visit, while layers are unpacked.
   */
  readonly steps: number;
}

/**
 * Approximate memory for a node without entry, for the entry, and for the map that a directory's second child
 * needs.
 */
const NODE_BYTES = 250;
const ENTRY_BYTES = 180;
const MAP_BYTES = 400;

/** Counts against a {@link TreeSize}. */
export class TreeBudget {
  bytes = 0;
  steps = 0;
  readonly #max: TreeSize;

  constructor(max: TreeSize) {
    this.#max = max;
  }

  /** Call before a node is put into a directory. */
  countNode(name: string, { entry }: TreeNode, siblings: ChildNodes): void {
    this.bytes += NODE_BYTES + name.length + (siblings.size === 1 ? MAP_BYTES : 0);
    if (entry !== undefined)
      this.bytes += ENTRY_BYTES + entry.linkname.length + (entry.sparseMap?.length ?? 0);
  }

  /** @throws SpandrelError LAYER_TOO_LARGE if a limit is exceeded */
  assertWithin(): void {
    if (this.bytes > this.#max.bytes || this.steps > this.#max.steps)
      throw new SpandrelError(
        'LAYER_TOO_LARGE',
        'the layers of the image have too many files, directories or links to be merged',
      );
  }
}
