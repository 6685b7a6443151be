import { SpandrelError } from '../core/errors.ts';
import { cleanPath, type RawText } from '../ztoc/raw-text.ts';
import type { TocEntry } from '../ztoc/ztoc.ts';

/** A file or directory of the merged file system. */
export interface TreeNode {
  /** Number of the layer that the metadata comes from, 0 for the lowest; `undefined` for a directory no layer has an entry for. */
  layer: number | undefined;
  entry: TocEntry | undefined;
  /** Present on directories. */
  children: Map<string, TreeNode> | undefined;
}

/** How large a tree may become. */
export interface TreeSize {
  /** Files and directories. An archive of deep paths makes thousands of directories with each of its files. */
  readonly nodes: number;
  /** Segments of symbolic links that are followed while layers are applied: a few for each file that is behind one. */
  readonly linkSegments: number;
}

const WHITEOUT_PREFIX = '.wh.';
const OPAQUE_WHITEOUT = '.wh..wh..opq';
/** As in Linux, path_resolution(7). */
const MAX_SYMLINKS = 40;
/** As in Linux: no unpacker can make a longer path, nor a symbolic link with a longer target. */
const MAX_PATH_BYTES = 4095;
const MAX_SIZE: TreeSize = { nodes: 4_000_000, linkSegments: 20_000_000 };
/** Rough cost of a node with its map slot, for the caches that hold trees. */
const NODE_BYTES = 400;

/**
 * The file system of an image as a container sees it: layers applied from the lowest up (OCI image spec, "Applying
 * Changesets"). Names are raw bytes, one character each. Names are never taken as host paths.
 */
export class MergedTree {
  readonly #root: TreeNode = directory();
  #layers = 0;
  #nodes = 1;
  #linkSegments = 0;
  readonly #maxSize: TreeSize;

  constructor(maxSize: TreeSize = MAX_SIZE) {
    this.#maxSize = maxSize;
  }

  get memoryBytes(): number {
    return this.#nodes * NODE_BYTES;
  }

  /**
   * Apply the next layer, given its entries in the order of the archive. Those whose paths are too long for Linux are left out.
   * @throws SpandrelError LAYER_TOO_LARGE for more directories or links than an image can be meant to have
   */
  addLayer(entries: Iterable<TocEntry>): void {
    const layer = this.#layers++;
    const own: TocEntry[] = [];
    // Whiteouts hide what lower layers have, never the layer's own files, wherever in the archive they stand.
    for (const entry of entries) {
      if (entry.name.length > MAX_PATH_BYTES || entry.linkname.length > MAX_PATH_BYTES) continue;
      if (!this.#applyWhiteout(entry)) own.push(entry);
      this.#checkSize();
    }
    for (const entry of own) {
      this.#addEntry(entry, layer);
      this.#checkSize();
    }
  }

  #checkSize(): void {
    const { nodes, linkSegments } = this.#maxSize;
    if (this.#nodes > nodes || this.#linkSegments > linkSegments)
      throw new SpandrelError(
        'LAYER_TOO_LARGE',
        'the layers of the image have too many directories or links',
      );
  }

  #applyWhiteout(entry: TocEntry): boolean {
    const path = splitPath(entry.name);
    const name = path.pop() ?? '';
    if (!name.startsWith(WHITEOUT_PREFIX)) return false;
    const parent = this.#walk(path, { followLast: true })?.node;
    if (name === OPAQUE_WHITEOUT) parent?.children?.clear();
    else parent?.children?.delete(name.slice(WHITEOUT_PREFIX.length));
    return true;
  }

  #addEntry(entry: TocEntry, layer: number): void {
    const path = splitPath(entry.name);
    const name = path.pop();
    if (name === undefined) {
      this.#root.entry = entry;
      this.#root.layer = layer;
      return;
    }
    const siblings = this.#openDirectory(path);
    if (siblings === undefined) return;
    const existing = siblings.get(name);
    if (entry.type === 'dir') {
      // A directory over a directory changes its metadata and keeps what is in it.
      siblings.set(name, { layer, entry, children: existing?.children ?? new Map() });
    } else if (entry.type === 'hardlink') {
      const target = this.#walk(splitPath(entry.linkname), { followLast: false })?.node;
      if (target !== undefined && target.children === undefined) siblings.set(name, target);
    } else {
      siblings.set(name, { layer, entry, children: undefined });
    }
    if (existing === undefined) this.#nodes++;
  }

  /** The children of the directory at `path`, made where missing; symbolic links on the way are followed as when unpacking. */
  #openDirectory(path: readonly string[]): Map<string, TreeNode> | undefined {
    const found = this.#walk(path, { followLast: true, create: true });
    if (found === undefined) return undefined;
    found.node.children ??= new Map();
    return found.node.children;
  }

  /**
   * What stands at a path.
   * @param path raw bytes; a leading slash and `.` mean nothing, `..` goes up but never above the root
   * @throws SpandrelError FILE_UNKNOWN, also for symbolic links that lead nowhere or in a circle
   */
  resolve(path: RawText, followLast: boolean): { node: TreeNode; path: string } {
    const found = this.#walk(path.split('/'), { followLast });
    if (found === undefined) throw new SpandrelError('FILE_UNKNOWN', 'the image has no such file');
    return { node: found.node, path: found.path.join('/') };
  }

  #walk(
    segments: readonly string[],
    options: { followLast: boolean; create?: boolean },
  ): { node: TreeNode; path: string[] } | undefined {
    const todo = segments.toReversed();
    const path: string[] = [];
    const nodes: TreeNode[] = [this.#root];
    let symlinks = 0;
    for (let segment = todo.pop(); segment !== undefined; segment = todo.pop()) {
      const here = nodes.at(-1) ?? this.#root;
      if (segment === '.' || segment === '') continue;
      if (segment === '..') {
        if (nodes.length > 1) {
          nodes.pop();
          path.pop();
        }
        continue;
      }
      let child = here.children?.get(segment);
      if (child?.entry?.type === 'symlink' && (options.followLast || todo.length > 0)) {
        if (++symlinks > MAX_SYMLINKS) return undefined;
        const { linkname } = child.entry;
        if (linkname.startsWith('/')) {
          nodes.length = 1;
          path.length = 0;
        }
        const target = linkname.split('/');
        if (options.create === true) this.#linkSegments += target.length;
        todo.push(...target.reverse());
        continue;
      }
      if (options.create === true && child?.children === undefined) {
        child = directory();
        here.children ??= new Map();
        here.children.set(segment, child);
        this.#nodes++;
      }
      if (child === undefined) return undefined;
      nodes.push(child);
      path.push(segment);
    }
    return { node: nodes.at(-1) ?? this.#root, path };
  }
}

function directory(): TreeNode {
  return { layer: undefined, entry: undefined, children: new Map() };
}

/** Segments of a tar name below the root. */
function splitPath(name: RawText): string[] {
  const path = cleanPath(name);
  return path === '' ? [] : path.split('/');
}
