import type { Digest } from '../../core/digest.ts';
import type { TocEntry } from '../../tar/toc-entry.ts';
import { LayerTree } from './layer-tree.ts';
import {
  implicitDirectory,
  type LayerFault,
  TreeBudget,
  type TreeNode,
  type TreeSize,
  WHITEOUT,
} from './tree-node.ts';

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
  /** All, each by itself. */
  readonly #layers: LayerTree[] = [];

  constructor(maxSize: TreeSize) {
    this.#budget = new TreeBudget(maxSize);
  }

  /**
   * Put the next layer on top, given its entries in the order of the archive.
   * @param isTopmost there will be no other: what it brings need not be kept by itself
   * @throws SpandrelError LAYER_TOO_LARGE for more directories or links than an image can be meant to have
   */
  addLayer(layer: Digest, entries: Iterable<TocEntry>, isTopmost: boolean): void {
    const own = new LayerTree({ layer, isLowest: this.#isEmpty, budget: this.#budget });
    this.#isEmpty = false;
    for (const entry of entries) own.add(entry);
    this.#overlay(own.root, isTopmost);
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

  /** What all layers together give. */
  get root(): TreeNode {
    return this.#root;
  }

  /** Lay the tree of a layer over what there is. */
  #overlay(root: TreeNode, isTopmost: boolean): void {
    if (root.fault !== undefined) this.#root = implicitDirectory(root.fault);
    const todo: Overlay[] = [{ path: '', lower: this.#root, upper: root }];
    for (let overlay = todo.pop(); overlay !== undefined; overlay = todo.pop()) {
      const { lower, upper } = overlay;
      for (const [name, node] of upper.children ?? []) {
        const path = `${overlay.path}/${name}`;
        const below = lower === upper ? undefined : lower.children?.get(name);
        const merged = this.#overlayNode({ path, lower, upper: node }, below, isTopmost);
        if (merged === undefined) lower.children?.delete(name);
        else this.#place(lower, name, merged);
        if (merged?.children !== undefined) todo.push({ path, lower: merged, upper: node });
      }
      this.#budget.check();
    }
  }

  #place({ children }: TreeNode, name: string, node: TreeNode): void {
    if (children === undefined) return;
    if (children.get(name) === undefined)
      this.#budget.countNode(name, { ...node, entry: undefined }, children);
    children.set(name, node);
  }

  /**
   * What shows of `upper` in the directory `lower`, which has `below` by that name; a directory without what will be in it. Of the topmost
   * layer directories with nothing below become those of the merged tree, and are gone through in place.
   */
  #overlayNode(
    { path, lower, upper }: Overlay,
    below: TreeNode | undefined,
    isTopmost: boolean,
  ): TreeNode | undefined {
    // A whiteout has done its work where nothing below is unknown.
    if (upper === WHITEOUT) return lower.fault === undefined ? undefined : WHITEOUT;
    if (upper.children === undefined) return upper;
    const hidden = below === undefined ? lower.fault : below.fault;
    const fault = upper.fault ?? (upper.isOpaque === true ? undefined : hidden);
    const isMerged = upper.fault === undefined && upper.isOpaque !== true;
    const fresh = isTopmost ? upper : implicitDirectory();
    const merged = isMerged && below?.children !== undefined ? below : fresh;
    if (merged === fresh && fault !== undefined) merged.fault = fault;
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
}
