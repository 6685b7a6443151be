import type { Digest } from '../core/digest.ts';
import type { TocEntry } from '../tar/toc-entry.ts';
import { LayerTree } from './layer-tree.ts';
import {
  implicitDirectory,
  type LayerFault,
  TreeBudget,
  type TreeNode,
  type TreeSize,
  WHITEOUT,
} from './tree-node.ts';

/** A node of an upper layer, to be merged over a directory or into one. */
interface Overlay {
  /** Starts with a slash; empty for the root. */
  readonly path: string;
  readonly lower: TreeNode;
  readonly upper: TreeNode;
}

/**
 * The file system of an image as a container on a node sees it: containerd unpacks each layer separately, and
 * overlayfs stacks them, so an entry of one layer never follows a symbolic link of another. Names are raw
 * bytes, one character each, and never paths of this host.
 */
export class MergedTree {
  #root: TreeNode = implicitDirectory();
  #isEmpty = true;
  readonly #budget: TreeBudget;
  /** The separate trees of all layers. */
  readonly #layers: LayerTree[] = [];

  constructor(maxSize: TreeSize) {
    this.#budget = new TreeBudget(maxSize);
  }

  /**
   * Adds the next layer on top, from its entries in archive order.
   * @param isTopmost true if no layer follows, so that its own tree need not be kept
   * @throws SpandrelError LAYER_TOO_LARGE for too many directories or links
   */
  addLayer(layer: Digest, entries: Iterable<TocEntry>, isTopmost: boolean): void {
    const own = new LayerTree({ layer, isLowest: this.#isEmpty, budget: this.#budget });
    this.#isEmpty = false;
    for (const entry of entries) own.add(entry);
    this.#overlay(own.root, isTopmost);
    this.#layers.push(own);
  }

  /**
   * Adds a layer with unknown content. It may have touched anything, so everything below it becomes unknown,
   * and requests for it throw the fault. Layers above it are known.
   */
  addUnreadableLayer(fault: LayerFault): void {
    this.#isEmpty = false;
    this.#root = implicitDirectory(fault);
    this.#layers.length = 0;
  }

  /** The merged file system. */
  get root(): TreeNode {
    return this.#root;
  }

  /** Merges the tree of a layer over the current one. */
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
      this.#budget.assertWithin();
    }
  }

  #place({ children }: TreeNode, name: string, node: TreeNode): void {
    if (children === undefined) return;
    if (children.get(name) === undefined)
      this.#budget.countNode(name, { ...node, entry: undefined }, children);
    children.set(name, node);
  }

  /**
   * The node that results from `upper` in the directory `lower`, which has `below` under that name; a
   * directory comes without its children. Directories of the topmost layer with nothing below are taken into
   * the merged tree and processed in place.
   */
  #overlayNode(
    { path, lower, upper }: Overlay,
    below: TreeNode | undefined,
    isTopmost: boolean,
  ): TreeNode | undefined {
    // Below an unknown directory the whiteout must stay, as it hides whatever is there.
    if (upper === WHITEOUT) return lower.fault === undefined ? undefined : WHITEOUT;
    if (upper.children === undefined) return upper;
    const hidden = below === undefined ? lower.fault : below.fault;
    const fault = upper.fault ?? (upper.isOpaque === true ? undefined : hidden);
    const isMerged = upper.fault === undefined && upper.isOpaque !== true;
    const fresh = isTopmost ? upper : implicitDirectory();
    const merged = isMerged && below?.children !== undefined ? below : fresh;
    if (merged === fresh && fault !== undefined) merged.fault = fault;
    const {
      layer,
      entry,
      isRepeated = false,
    } = (upper.entry === undefined && this.#findTemplate(path)) || upper;
    merged.layer = upper.layer = layer;
    merged.entry = upper.entry = entry;
    merged.isRepeated = upper.isRepeated = isRepeated;
    return merged;
  }

  /**
   * The directory whose metadata an implied directory gets: that of the topmost layer in which the path leads
   * to something by itself (containerd `pkg/archive/tar.go`, mkparent).
   */
  #findTemplate(path: string): TreeNode | undefined {
    if (this.#layers.length === 0) return undefined;
    const segments = path.split('/').slice(1);
    for (const layer of this.#layers.toReversed()) {
      this.#budget.steps += segments.length;
      this.#budget.assertWithin();
      const found = layer.find(segments);
      if (found !== undefined) return found.children && found;
    }
    return undefined;
  }
}
