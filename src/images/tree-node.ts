import type { Digest } from '../core/digest.ts';
import { type ErrorCode, SpandrelError } from '../core/errors.ts';
import type { TocEntry } from '../ztoc/ztoc.ts';

/** A layer, or an entry of it, that no node can unpack. */
export interface LayerFault {
  /** Digest, as the manifest has it. */
  readonly layer: string;
  readonly code: ErrorCode;
  readonly message: string;
}

/** What stands at a path, in one layer or in the merged file system. */
export interface TreeNode {
  /** The layer that the metadata comes from; `undefined` for a directory that no layer has an entry for. */
  layer: Digest | undefined;
  entry: TocEntry | undefined;
  /** Present on directories. */
  readonly children: Map<string, TreeNode> | undefined;
  /** Of a directory in a layer's own tree: what lower layers have in it does not show. */
  isOpaque?: boolean;
  /** What cannot be told: of a directory, whatever is not among its children; of anything else, all. */
  fault?: LayerFault;
}

/** Names of lower layers that do not show. Its own object, never changed: hard links to it are whiteouts too. */
export const WHITEOUT: TreeNode = Object.freeze({ layer: undefined, entry: undefined, children: undefined });

/** A directory that no layer has an entry for. */
export function implicitDirectory(fault?: LayerFault): TreeNode & { children: Map<string, TreeNode> } {
  return {
    layer: undefined,
    entry: undefined,
    children: new Map<string, TreeNode>(),
    ...(fault === undefined ? {} : { fault }),
  };
}

/** The error of whoever asks for what is not known because of `fault`. */
export function faultError({ layer, code, message }: LayerFault): SpandrelError {
  return new SpandrelError(code, `layer ${layer} cannot be unpacked: ${message}`, { detail: { layer } });
}

/** How large trees may become. */
export interface TreeSize {
  /** Files and directories. An archive of deep paths makes thousands of directories with each of its files. */
  readonly nodes: number;
  /** Segments of symbolic links that are followed, and names that opaque whiteouts pass over, while layers are unpacked. */
  readonly steps: number;
}

/** Counts what is spent of a {@link TreeSize}. */
export class TreeBudget {
  nodes = 0;
  steps = 0;
  readonly #max: TreeSize;

  constructor(max: TreeSize) {
    this.#max = max;
  }

  /** @throws SpandrelError LAYER_TOO_LARGE for more directories or links than an image can be meant to have */
  check(): void {
    if (this.nodes > this.#max.nodes || this.steps > this.#max.steps)
      throw new SpandrelError(
        'LAYER_TOO_LARGE',
        'the layers of the image have too many directories or links',
      );
  }
}
