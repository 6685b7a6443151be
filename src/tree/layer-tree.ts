import type { Digest } from '../core/digest.ts';
import { cleanPath, type RawText } from '../tar/raw-text.ts';
import type { TocEntry } from '../tar/toc-entry.ts';
import type { ChildNodes } from './child-nodes.ts';
import { implicitDirectory, type TreeBudget, type TreeEntry, type TreeNode, WHITEOUT } from './tree-node.ts';

export interface LayerTreeOptions {
  readonly layer: Digest;
  /** True for the lowest layer, where whiteouts remove what the layer itself has unpacked before. */
  readonly isLowest: boolean;
  readonly budget: TreeBudget;
}

type Directory = TreeNode & { readonly children: ChildNodes };

const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_WHITEOUT = '.wh..wh..opq';
/** As in Linux: unpackers cannot create longer paths, or symbolic links with longer targets. */
const MAX_PATH_BYTES = 4095;
const MAX_NAME_BYTES = 255;
/** As in containerd's continuity `fs/path.go`, walkLinks. */
const MAX_LINKS = 255;

/**
 * What one layer unpacks to in its own directory, as containerd does for overlayfs (`pkg/archive/tar.go`,
 * applyNaive with OverlayConvertWhiteout): entries in archive order, following symbolic links of this layer.
 * Where containerd fails, the nodes that the entry might touch become faulty. Paths that are too long for
 * Linux are left out.
 */
export class LayerTree {
  readonly root: Directory = implicitDirectory();
  readonly #options: LayerTreeOptions;

  constructor(options: LayerTreeOptions) {
    this.#options = options;
  }

  /** @throws SpandrelError as {@link TreeBudget.assertWithin} */
  add(entry: TocEntry): void {
    if (entry.name.length > MAX_PATH_BYTES || entry.linkname.length > MAX_PATH_BYTES) return;
    const path = splitPath(entry.name);
    if (path.some((segment) => segment.length > MAX_NAME_BYTES)) return;
    const name = path.pop();
    // The root keeps its own metadata.
    if (name === undefined) return;
    const parent = this.#openDirectory(path);
    if (parent !== undefined) {
      if (name.startsWith(WHITEOUT_PREFIX)) this.#addWhiteout(parent, name);
      else this.#addEntry(parent, name, entry);
    }
    this.#options.budget.assertWithin();
  }

  #addEntry({ children }: Directory, name: string, entry: TocEntry): void {
    const { layer, budget } = this.#options;
    const existing = children.get(name);
    if (existing?.children !== undefined && entry.type === 'dir') {
      // A directory entry over a directory replaces its metadata and keeps its children.
      existing.layer = layer;
      existing.entry = keptOf(entry);
      existing.isRepeated = true;
      return;
    }
    // Before hard links are resolved: one may name the file that it replaces.
    children.delete(name);
    const node = entry.type === 'hardlink' ? this.#link(entry) : this.#create(entry);
    budget.countNode(name, node, children);
    children.set(name, node);
  }

  #create(created: TocEntry): TreeNode {
    const { layer } = this.#options;
    const { type, devMajor, devMinor, linkname } = created;
    const entry = keptOf(created);
    if (type === 'dir') return { ...implicitDirectory(), layer, entry };
    if (type === 'unknown' || type === 'contiguous' || type === 'gnu-sparse')
      return this.#unreadable('an entry has a type that nodes cannot unpack');
    if (type === 'symlink' && linkname === '') return this.#unreadable('a symbolic link leads to nothing');
    // overlayfs takes such a device for a whiteout.
    if (type === 'char' && devMajor === 0 && devMinor === 0) return WHITEOUT;
    return { layer, entry, children: undefined };
  }

  /** The node at a path, following the symbolic links of this layer, including the last. */
  find(path: readonly string[]): TreeNode | undefined {
    const place = this.#follow(path);
    if (place === undefined) return undefined;
    let node: TreeNode | undefined = this.root;
    for (const segment of place) node = node?.children?.get(segment);
    return node;
  }

  /** The same file under a second name; the metadata of the last entry applies. */
  #link({ linkname, mode }: TocEntry): TreeNode {
    const path = splitPath(linkname);
    const name = path.pop();
    const target = name === undefined ? undefined : this.find(path)?.children?.get(name);
    if (target === undefined || target.children !== undefined)
      return this.#unreadable('a hard link does not lead to a file of the layer');
    if (target.entry !== undefined) {
      target.entry = { ...target.entry, mode };
      target.links = (target.links ?? 0) + 1;
    }
    return target;
  }

  #addWhiteout(parent: Directory, name: string): void {
    const { children } = parent;
    const { isLowest, budget } = this.#options;
    const hidden = name.slice(WHITEOUT_PREFIX.length);
    if (name === OPAQUE_WHITEOUT) {
      if (isLowest) this.#removeImplicit(parent);
      else parent.isOpaque = true;
    } else if (hidden === '' || hidden === '.' || hidden === '..') {
      parent.fault = this.#fault('a whiteout names no file');
    } else if (isLowest) {
      children.delete(hidden);
    } else {
      const existing = children.get(hidden);
      const node =
        existing === undefined || existing === WHITEOUT
          ? WHITEOUT
          : this.#unreadable('a whiteout names a file of its own layer');
      budget.countNode(hidden, node, children);
      children.set(hidden, node);
    }
  }

  /**
   * Applies an opaque whiteout in the lowest layer: removes directories that are only implied, at any depth.
   */
  #removeImplicit(directory: Directory): void {
    const todo: Directory[] = [directory];
    for (let here = todo.pop(); here !== undefined; here = todo.pop()) {
      this.#options.budget.steps += here.children.size;
      this.#options.budget.assertWithin();
      for (const [name, child] of here.children) {
        if (!isDirectory(child)) continue;
        if (child.entry === undefined) here.children.delete(name);
        else todo.push(child);
      }
    }
  }

  /**
   * The directory at `path`, created if missing; `undefined`, with a fault there, if something else is in the
   * way.
   */
  #openDirectory(path: readonly string[]): Directory | undefined {
    const place = this.#follow(path);
    if (place === undefined) {
      this.#refuseBelowLink(path);
      return undefined;
    }
    let here = this.root;
    for (const segment of place) {
      let child = here.children.get(segment);
      if (child === undefined) {
        child = implicitDirectory();
        this.#options.budget.countNode(segment, child, here.children);
        here.children.set(segment, child);
      }
      if (!isDirectory(child)) {
        here.children.set(segment, this.#unreadable('an entry lies below something that is not a directory'));
        return undefined;
      }
      here = child;
    }
    return here;
  }

  #refuseBelowLink(path: readonly string[]): void {
    let here: TreeNode | undefined = this.root;
    for (const segment of path) {
      const child: TreeNode | undefined = here?.children?.get(segment);
      if (child?.entry?.type === 'symlink')
        here?.children?.set(segment, this.#unreadable('an entry lies below a link that leads to itself'));
      here = child;
    }
  }

  /**
   * The target of a path within this layer, without symbolic links; `undefined` if it leads in circles or
   * becomes too long.
   */
  #follow(path: readonly string[]): string[] | undefined {
    const { budget } = this.#options;
    const todo = path.toReversed();
    const place: string[] = [];
    const nodes: (TreeNode | undefined)[] = [this.root];
    let links = 0;
    for (let segment = todo.pop(); segment !== undefined; segment = todo.pop()) {
      if (segment === '..') {
        if (place.pop() !== undefined) nodes.pop();
        continue;
      }
      const child = nodes.at(-1)?.children?.get(segment);
      if (child?.entry?.type !== 'symlink') {
        place.push(segment);
        nodes.push(child);
        continue;
      }
      if (++links > MAX_LINKS) return undefined;
      const { linkname } = child.entry;
      budget.steps += linkname.length;
      budget.assertWithin();
      todo.push(...linkTarget(place, linkname).reverse());
      place.length = 0;
      nodes.length = 1;
    }
    return place.join('/').length > MAX_PATH_BYTES ? undefined : place;
  }

  #unreadable(message: string): TreeNode {
    const { layer } = this.#options;
    return { layer, entry: undefined, children: undefined, fault: this.#fault(message) };
  }

  #fault(message: string): NonNullable<TreeNode['fault']> {
    return { layer: this.#options.layer, code: 'TAR_INVALID', message };
  }
}

/** Drops the PAX records, which may be long. */
function keptOf({
  type,
  mode,
  linkname,
  uncompressedOffset,
  uncompressedSize,
  sparseMap,
}: TocEntry): TreeEntry {
  return {
    type,
    mode,
    linkname,
    uncompressedOffset,
    uncompressedSize,
    ...(sparseMap === undefined ? {} : { sparseMap }),
  };
}

function isDirectory(node: TreeNode): node is Directory {
  return node.children !== undefined;
}

/**
 * Segments from the root. As in containerd, `..` removes the name before it, except in absolute links and in
 * links in the root.
 */
function linkTarget(place: readonly string[], linkname: RawText): string[] {
  if (place.length > 0 && !linkname.startsWith('/'))
    return splitPath([...place, linkname].join('/') as RawText);
  return linkname.split('/').filter((segment) => segment !== '' && segment !== '.');
}

/** Segments of a tar name below the root. */
function splitPath(name: RawText): string[] {
  const path = cleanPath(name);
  return path === '' ? [] : path.split('/');
}
