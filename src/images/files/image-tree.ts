import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { describeRawText, EMPTY_RAW_TEXT, type RawText } from '../../tar/raw-text.ts';
import { AT, FLAGS, NO_LAYER, NO_TYPE, type PackedTree, RECORD_BYTES, TYPES } from './pack-tree.ts';
import { faultError, type LayerFault, type TreeEntry } from '../../tree/tree-node.ts';

/** Number of a node's record. */
export type TreePlace = number;

/** A node of the merged file system. */
export interface TreeItem {
  /** The layer that has the entry; `undefined` for a directory that is only implied. */
  readonly layer: Digest | undefined;
  /** The bits of the mode that unpackers apply. */
  readonly mode: number;
  readonly entry: Omit<TreeEntry, 'mode'> | undefined;
  readonly isDirectory: boolean;
  /**
   * Why something is unknown: for a directory, any name that is not among its children; otherwise the node
   * itself.
   */
  readonly fault: LayerFault | undefined;
}

/** The target of a path. */
export interface FoundPlace {
  readonly place: TreePlace;
  /** Without symbolic links. */
  readonly path: string;
}

/** As in Linux, path_resolution(7). */
const MAX_SYMLINKS = 40;
/** Names that one lookup visits at most. A path of 4095 bytes has half as many. */
const MAX_STEPS = 20_000;
const ROOT: TreePlace = 0;

/**
 * The file system of an image as a container sees it. Names are raw bytes, one character each, and never
 * paths of this host.
 */
export class ImageTree {
  readonly #tree: PackedTree;
  readonly #records: Buffer;
  readonly #texts: Buffer;

  /** @param tree kept */
  constructor(tree: PackedTree) {
    this.#tree = tree;
    this.#records = Buffer.from(tree.records.buffer);
    this.#texts = Buffer.from(tree.texts.buffer);
  }

  get memoryBytes(): number {
    return this.#records.byteLength + this.#texts.byteLength;
  }

  /**
   * Resolves a path.
   * @param path raw bytes; a leading slash and `.` are ignored, `..` stops at the root
   * @throws SpandrelError FILE_UNKNOWN, also for symbolic links that lead nowhere or in a circle, with the
   * last link in its detail; the code of a fault, with the layer in its message and detail
   */
  resolve(path: RawText, followLast: boolean): FoundPlace {
    const found = this.#walk(path.split('/'), { followLast, budget: { steps: MAX_STEPS } });
    if (found.fault !== undefined) throw faultError(found.fault);
    if (found.place === undefined) throw fileUnknown(found);
    return { place: found.place, path: found.path.join('/') };
  }

  /**
   * True if a symbolic link leads to nothing in this image, or in a circle; `undefined` if that is unknown
   * because of a layer's fault, or if the budget is spent.
   * @param path of the link; none of its parent directories is a link
   * @param budget names that may still be visited; counted down
   */
  isDangling(path: RawText, budget: { steps: number }): boolean | undefined {
    const { fault, place } = this.#walk(path.split('/'), { followLast: true, budget });
    if (fault !== undefined || budget.steps < 0) return undefined;
    return place === undefined;
  }

  item(place: TreePlace): TreeItem {
    const records = this.#records;
    const at = place * RECORD_BYTES;
    const type = TYPES[records.readUInt8(at + AT.type)];
    const layer = records.readUInt16LE(at + AT.layer);
    return {
      layer: layer === NO_LAYER ? undefined : this.#tree.layers[layer],
      mode: records.readUInt16LE(at + AT.mode),
      isDirectory: this.#isDirectory(place),
      fault: this.#faultOf(place),
      entry: type && {
        type,
        linkname: type === 'symlink' ? this.#textOf(place) : EMPTY_RAW_TEXT,
        uncompressedSize: records.readDoubleLE(at + AT.size),
        uncompressedOffset: records.readDoubleLE(at + AT.offset),
        ...(type === 'sparse' || type === 'gnu-sparse' ? { sparseMap: this.#textOf(place) } : {}),
      },
    };
  }

  name(place: TreePlace): RawText {
    const at = place * RECORD_BYTES;
    const start = this.#records.readUInt32LE(at + AT.nameStart);
    return this.#text(start, this.#records.readUInt8(at + AT.nameBytes));
  }

  /** The children of a directory whose names follow `name`, in order: `[start, end)`. */
  childrenAfter(directory: TreePlace, name: RawText | undefined): { start: TreePlace; end: TreePlace } {
    const { start, end } = this.#children(directory);
    return { start: name === undefined ? start : this.#search(directory, (child) => child > name), end };
  }

  #children(directory: TreePlace): { start: TreePlace; end: TreePlace } {
    const at = directory * RECORD_BYTES;
    const start = this.#records.readUInt32LE(at + AT.first);
    return { start, end: start + this.#records.readUInt32LE(at + AT.count) };
  }

  #child(directory: TreePlace, name: string): TreePlace | undefined {
    const place = this.#search(directory, (child) => child >= name);
    return place < this.#children(directory).end && this.name(place) === name ? place : undefined;
  }

  /** The first child that `isWanted` accepts, by binary search; the end of the children if there is none. */
  #search(directory: TreePlace, isWanted: (name: string) => boolean): TreePlace {
    let { start: low, end: high } = this.#children(directory);
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (isWanted(this.name(middle))) high = middle;
      else low = middle + 1;
    }
    return low;
  }

  #isDirectory(place: TreePlace): boolean {
    return (this.#records.readUInt8(place * RECORD_BYTES + AT.flags) & FLAGS.directory) !== 0;
  }

  #isWhiteout(place: TreePlace): boolean {
    return (this.#records.readUInt8(place * RECORD_BYTES + AT.flags) & FLAGS.whiteout) !== 0;
  }

  #isSymlink(place: TreePlace): boolean {
    const type = this.#records.readUInt8(place * RECORD_BYTES + AT.type);
    return type !== NO_TYPE && TYPES[type] === 'symlink';
  }

  #faultOf(place: TreePlace): LayerFault | undefined {
    const number = this.#records.readUInt32LE(place * RECORD_BYTES + AT.fault);
    return number === 0 ? undefined : this.#tree.faults[number - 1];
  }

  #textOf(place: TreePlace): RawText {
    const at = place * RECORD_BYTES;
    return this.#text(this.#records.readUInt32LE(at + AT.first), this.#records.readUInt32LE(at + AT.count));
  }

  #text(start: number, bytes: number): RawText {
    return this.#texts.toString('latin1', start, start + bytes) as RawText;
  }

  #walk(
    segments: readonly string[],
    { followLast, budget }: { readonly followLast: boolean; readonly budget: { steps: number } },
  ): Walk {
    const todo = segments.toReversed();
    const path: string[] = [];
    const places: TreePlace[] = [];
    let symlinks = 0;
    let link: Walk['link'];
    for (let segment = todo.pop(); segment !== undefined; segment = todo.pop()) {
      if (--budget.steps < 0) return { place: undefined, path, link };
      if (segment === '.' || segment === '') continue;
      if (segment === '..') {
        places.pop();
        path.pop();
        continue;
      }
      const here = places.at(-1) ?? ROOT;
      const isDirectory = this.#isDirectory(here);
      const child = isDirectory ? this.#child(here, segment) : undefined;
      // In a faulty directory, a name that is not among the children is unknown.
      if (child === undefined)
        return { place: undefined, path, link, fault: isDirectory ? this.#faultOf(here) : undefined };
      if (this.#isWhiteout(child)) return { place: undefined, path, link };
      const fault = this.#isDirectory(child) ? undefined : this.#faultOf(child);
      if (fault !== undefined) return { place: child, path, fault };
      if (this.#isSymlink(child) && (followLast || todo.length > 0)) {
        const linkname = this.#textOf(child);
        link = { path: [...path, segment], linkname };
        if (++symlinks > MAX_SYMLINKS) return { place: undefined, path, link, isCircle: true };
        if (linkname.startsWith('/')) places.length = path.length = 0;
        todo.push(...linkname.split('/').reverse());
        continue;
      }
      places.push(child);
      path.push(segment);
    }
    return { place: places.at(-1) ?? ROOT, path };
  }
}

/** Result of following a path. */
interface Walk {
  /** `undefined` if there is nothing. */
  readonly place: TreePlace | undefined;
  /** Without symbolic links. */
  readonly path: readonly string[];
  /** Why the result is unknown. */
  readonly fault?: LayerFault | undefined;
  /** The last symbolic link that was followed. */
  readonly link?: { readonly path: readonly string[]; readonly linkname: RawText } | undefined;
  readonly isCircle?: boolean;
}

function fileUnknown({ link, isCircle }: Walk): SpandrelError {
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
