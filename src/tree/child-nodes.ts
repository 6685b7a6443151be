import type { TreeNode } from './tree-node.ts';

/**
 * The nodes of a directory by name, in insertion order. Deep paths create directories with a single child,
 * for which a map would take several times the memory.
 */
export class ChildNodes {
  #name: string | undefined;
  #node: TreeNode | undefined;
  #map: Map<string, TreeNode> | undefined;

  get size(): number {
    return this.#map?.size ?? (this.#node === undefined ? 0 : 1);
  }

  get(name: string): TreeNode | undefined {
    if (this.#map !== undefined) return this.#map.get(name);
    return name === this.#name ? this.#node : undefined;
  }

  set(name: string, node: TreeNode): void {
    if (this.#map !== undefined) this.#map.set(name, node);
    else if (this.#node === undefined || this.#name === name) {
      this.#name = name;
      this.#node = node;
    } else {
      this.#map = new Map([...this, [name, node]]);
      this.#name = this.#node = undefined;
    }
  }

  delete(name: string): void {
    if (this.#map !== undefined) this.#map.delete(name);
    else if (this.#name === name) this.#name = this.#node = undefined;
  }

  /** Children may be deleted and replaced during the iteration. */
  *[Symbol.iterator](): Generator<[string, TreeNode], void, void> {
    if (this.#map !== undefined) yield* this.#map;
    else if (this.#name !== undefined && this.#node !== undefined) yield [this.#name, this.#node];
  }
}
