import type { Digest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { describeRawText, type RawText } from '../ztoc/raw-text.ts';
import type { TocEntry } from '../ztoc/ztoc.ts';
import { LayerTree } from './layer-tree.ts';
import {
  faultError,
  implicitDirectory,
  type LayerFault,
  TreeBudget,
  type TreeNode,
  type TreeSize,
  WHITEOUT,
} from './tree-node.ts';

/** As in Linux, path_resolution(7). */
const MAX_SYMLINKS = 40;
const MAX_SIZE: TreeSize = { nodes: 4_000_000, steps: 100_000_000 };
/** Rough cost of a node with its map slot, for the caches that hold trees. */
const NODE_BYTES = 400;

/** A node of an upper layer, to be laid over a directory or into one. */
interface Overlay {
  /** Begins with a slash; empty for the root. */
  readonly path: string;
  readonly lower: TreeNode;
  readonly upper: TreeNode;
}

/**
 * The file system of an image as a container on a node has it: containerd unpacks each layer by itself, and overlayfs lays them over
 * each other, so that no entry of a layer acts through a symbolic link of another. Names are raw bytes, one character each. Names are
 * never taken as host paths.
 */
export class MergedTree {
  #root: TreeNode = implicitDirectory();
  #isEmpty = true;
  readonly #budget: TreeBudget;
  /** All, each by itself, until there are no more. */
  readonly #layers: LayerTree[] = [];

  constructor(maxSize: TreeSize = MAX_SIZE) {
    this.#budget = new TreeBudget(maxSize);
  }

  get memoryBytes(): number {
    return (this.#budget.nodes + 1) * NODE_BYTES;
  }

  /**
   * Put the next layer on top, given its entries in the order of the archive.
   * @throws SpandrelError LAYER_TOO_LARGE for more directories or links than an image can be meant to have
   */
  addLayer(layer: Digest, entries: Iterable<TocEntry>): void {
    const own = new LayerTree({ layer, isLowest: this.#isEmpty, budget: this.#budget });
    this.#isEmpty = false;
    for (const entry of entries) own.add(entry);
    this.#overlay(own.root);
    this.#layers.push(own);
  }

  /**
   * Put a layer on top of which it is not known what it has. It may have touched anything, so nothing of what lies below is known any
   * more; asking for that throws the fault. What layers above it bring is.
   */
  addUnreadableLayer(fault: LayerFault): void {
    this.#isEmpty = false;
    this.#root = implicitDirectory(fault);
    this.#layers.length = 0;
  }

  /** There are no more layers: what is kept to lay them over each other can go. */
  complete(): void {
    this.#layers.length = 0;
  }

  /**
   * What stands at a path.
   * @param path raw bytes; a leading slash and `.` mean nothing, `..` goes up but never above the root
   * @throws SpandrelError FILE_UNKNOWN, also for symbolic links that lead nowhere or in a circle, with the last of them in its detail;
   * the code of a fault, with the layer in its message and its detail
   */
  resolve(path: RawText, followLast: boolean): { node: TreeNode; path: string } {
    const found = this.#walk(path.split('/'), { followLast });
    if (found.node === undefined) throw nothingThere(found);
    const { children, fault } = found.node;
    if (children === undefined && fault !== undefined) throw faultError(fault);
    return { node: found.node, path: found.path.join('/') };
  }

  /**
   * True if a symbolic link leads to nothing in this image, or in a circle; `undefined` if that cannot be told, because of a layer at
   * fault or because looking has cost enough.
   * @param path    of the link; none of the directories above it is a link
   * @param budget  names that may still be looked at; counted down
   */
  isDangling(path: RawText, budget: { steps: number }): boolean | undefined {
    const found = this.#walk(path.split('/'), { followLast: true, budget });
    if (found.node === undefined) return budget.steps < 0 ? undefined : true;
    return found.node.children === undefined && found.node.fault !== undefined ? undefined : false;
  }

  /** Lay the tree of a layer over what there is. */
  #overlay(root: TreeNode): void {
    if (root.fault !== undefined) this.#root = implicitDirectory(root.fault);
    const todo: Overlay[] = [{ path: '', lower: this.#root, upper: root }];
    for (let overlay = todo.pop(); overlay !== undefined; overlay = todo.pop()) {
      const { lower, upper } = overlay;
      for (const [name, node] of upper.children ?? []) {
        const path = `${overlay.path}/${name}`;
        const merged = this.#overlayNode({ path, lower, upper: node }, lower.children?.get(name));
        if (merged === undefined) lower.children?.delete(name);
        else lower.children?.set(name, merged);
        if (merged?.children !== undefined) todo.push({ path, lower: merged, upper: node });
      }
    }
  }

  /** What shows of `upper` in the directory `lower`, which has `below` by that name; a directory without what will be in it. */
  #overlayNode({ path, lower, upper }: Overlay, below: TreeNode | undefined): TreeNode | undefined {
    // A whiteout has done its work where nothing below is unknown.
    if (upper === WHITEOUT) return lower.fault === undefined ? undefined : WHITEOUT;
    if (upper.children === undefined) return upper;
    const hidden = below === undefined ? lower.fault : below.fault;
    const fault = upper.fault ?? (upper.isOpaque === true ? undefined : hidden);
    const isMerged = upper.fault === undefined && upper.isOpaque !== true;
    const merged = isMerged && below?.children !== undefined ? below : implicitDirectory(fault);
    const { layer, entry } = (upper.entry === undefined && this.#findTemplate(path)) || upper;
    merged.layer = upper.layer = layer;
    merged.entry = upper.entry = entry;
    return merged;
  }

  /**
   * The directory whose metadata one gets that is only implied by an upper layer: that of the topmost layer in which the path leads to
   * something by itself (containerd `pkg/archive/tar.go`, mkparent).
   */
  #findTemplate(path: string): TreeNode | undefined {
    if (this.#layers.length === 0) return undefined;
    const segments = path.split('/').slice(1);
    for (const layer of this.#layers.toReversed()) {
      this.#budget.steps += segments.length;
      this.#budget.check();
      const found = layer.find(segments);
      if (found !== undefined) return found.children && found;
    }
    return undefined;
  }

  #walk(
    segments: readonly string[],
    { followLast, budget }: { readonly followLast: boolean; readonly budget?: { steps: number } },
  ): Walk {
    const todo = segments.toReversed();
    const path: string[] = [];
    const nodes: TreeNode[] = [this.#root];
    let symlinks = 0;
    let link: Walk['link'];
    for (let segment = todo.pop(); segment !== undefined; segment = todo.pop()) {
      if (budget !== undefined && --budget.steps < 0) return { node: undefined, path, link };
      if (segment === '.' || segment === '') continue;
      if (segment === '..') {
        if (nodes.length > 1) {
          nodes.pop();
          path.pop();
        }
        continue;
      }
      const here = nodes.at(-1) ?? this.#root;
      const child = here.children?.get(segment) ?? unknownChild(here);
      if (child === undefined || child === WHITEOUT) return { node: undefined, path, link };
      if (child.children === undefined && child.fault !== undefined) return { node: child, path };
      if (child.entry?.type === 'symlink' && (followLast || todo.length > 0)) {
        const { linkname } = child.entry;
        link = { path: [...path, segment], linkname };
        if (++symlinks > MAX_SYMLINKS) return { node: undefined, path, link, isCircle: true };
        if (linkname.startsWith('/')) {
          nodes.length = 1;
          path.length = 0;
        }
        todo.push(...linkname.split('/').reverse());
        continue;
      }
      nodes.push(child);
      path.push(segment);
    }
    return { node: nodes.at(-1) ?? this.#root, path };
  }
}

/** Where a path has led to. */
interface Walk {
  /** Undefined if there is nothing. */
  readonly node: TreeNode | undefined;
  /** Without symbolic links. */
  readonly path: readonly string[];
  /** The symbolic link that was followed last. */
  readonly link?: { readonly path: readonly string[]; readonly linkname: RawText } | undefined;
  readonly isCircle?: boolean;
}

function nothingThere({ link, isCircle }: Walk): SpandrelError {
  if (link === undefined) return new SpandrelError('FILE_UNKNOWN', 'the image has no such file');
  const message =
    isCircle === true
      ? 'symbolic links lead in a circle'
      : 'the image has no such file: a symbolic link leads to nothing';
  return new SpandrelError('FILE_UNKNOWN', message, {
    detail: {
      ...describeRawText('link', link.path.join('/') as RawText),
      ...describeRawText('linkname', link.linkname),
    },
  });
}

/** What is not among the children of a directory, where that is not known. */
function unknownChild({ children, fault }: TreeNode): TreeNode | undefined {
  if (children === undefined || fault === undefined) return undefined;
  return { layer: undefined, entry: undefined, children: undefined, fault };
}
