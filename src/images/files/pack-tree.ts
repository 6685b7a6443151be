import type { Digest } from '../../core/digest.ts';
import type { EntryType } from '../../tar/toc-entry.ts';
import { OWN_ENTRY_TYPES, ZTOC_ENTRY_TYPES } from '../../tar/toc-entry.ts';
import { type LayerFault, type TreeNode, WHITEOUT } from '../../tree/tree-node.ts';

/**
 * A merged tree in two buffers. One record per node, little endian, the root first; the children of a
 * directory are adjacent, sorted bytewise by name.
 */
export interface PackedTree {
  readonly records: Uint8Array<ArrayBuffer>;
  /** Names, targets of symbolic links, and maps of sparse files, one character a byte. */
  readonly texts: Uint8Array<ArrayBuffer>;
  /** Referenced by number in records. */
  readonly layers: readonly Digest[];
  readonly faults: readonly LayerFault[];
}

export const TYPES: readonly EntryType[] = [...ZTOC_ENTRY_TYPES, ...OWN_ENTRY_TYPES];

/**
 * Fields of a record. `first` and `count`: the children of a directory; otherwise the node's text in `texts`.
 */
export const AT = {
  nameStart: 0,
  nameBytes: 4,
  type: 5,
  flags: 6,
  layer: 8,
  mode: 10,
  fault: 12,
  first: 16,
  count: 20,
  size: 24,
  offset: 32,
} as const;
export const RECORD_BYTES = 40;
export const FLAGS = { directory: 1, whiteout: 2 } as const;
/** For a node without entry or without layer. */
export const NO_TYPE = 0xff;
export const NO_LAYER = 0xffff;
/** The bits of a mode that unpackers apply. */
const PERMISSIONS = 0o7777;
const IMPLICIT_DIRECTORY_MODE = 0o755;
const INITIAL_BYTES = 2 ** 16;

/** Packs the tree below `root`. Needs memory in addition to that of the tree. */
export function packTree(root: TreeNode): PackedTree {
  const packer = new TreePacker();
  packer.add('', root);
  return packer.finish();
}

class TreePacker {
  #records = Buffer.alloc(INITIAL_BYTES);
  #texts = Buffer.alloc(INITIAL_BYTES);
  #textBytes = 0;
  readonly #layers = new Map<Digest, number>();
  readonly #faults = new Map<string, { readonly number: number; readonly fault: LayerFault }>();
  /** In the order of their records; a directory is dropped once its children are added. */
  readonly #nodes: (TreeNode | undefined)[] = [];

  add(name: string, node: TreeNode): void {
    const at = this.#nodes.length * RECORD_BYTES;
    this.#nodes.push(node.children === undefined ? undefined : node);
    this.#records = reserve(this.#records, at + RECORD_BYTES);
    const { layer, entry, children, fault } = node;
    const text = entry?.type === 'symlink' ? entry.linkname : (entry?.sparseMap ?? '');
    const isDirectory = children !== undefined;
    const records = this.#records;
    records.writeUInt32LE(this.#addText(name), at + AT.nameStart);
    records.writeUInt8(name.length, at + AT.nameBytes);
    records.writeUInt8(entry === undefined ? NO_TYPE : TYPES.indexOf(entry.type), at + AT.type);
    records.writeUInt8(
      (isDirectory ? FLAGS.directory : 0) | (node === WHITEOUT ? FLAGS.whiteout : 0),
      at + AT.flags,
    );
    records.writeUInt16LE(layer === undefined ? NO_LAYER : numberOf(layer, this.#layers), at + AT.layer);
    records.writeUInt16LE((entry?.mode ?? IMPLICIT_DIRECTORY_MODE) & PERMISSIONS, at + AT.mode);
    records.writeUInt32LE(fault === undefined ? 0 : 1 + this.#numberOfFault(fault), at + AT.fault);
    records.writeUInt32LE(isDirectory ? 0 : this.#addText(text), at + AT.first);
    records.writeUInt32LE(isDirectory ? 0 : text.length, at + AT.count);
    records.writeDoubleLE(entry?.uncompressedSize ?? 0, at + AT.size);
    records.writeDoubleLE(entry?.uncompressedOffset ?? 0, at + AT.offset);
  }

  finish(): PackedTree {
    for (let place = 0; place < this.#nodes.length; place++) {
      const children = this.#nodes[place]?.children;
      if (children === undefined) continue;
      this.#nodes[place] = undefined;
      this.#records.writeUInt32LE(this.#nodes.length, place * RECORD_BYTES + AT.first);
      this.#records.writeUInt32LE(children.size, place * RECORD_BYTES + AT.count);
      const sorted = [...children].sort(([a], [b]) => (a < b ? -1 : 1));
      for (const [name, child] of sorted) this.add(name, child);
    }
    return {
      records: Uint8Array.from(this.#records.subarray(0, this.#nodes.length * RECORD_BYTES)),
      texts: Uint8Array.from(this.#texts.subarray(0, this.#textBytes)),
      layers: [...this.#layers.keys()],
      faults: Array.from(this.#faults.values(), ({ fault }) => fault),
    };
  }

  /** @returns where the text starts */
  #addText(text: string): number {
    const start = this.#textBytes;
    this.#texts = reserve(this.#texts, start + text.length);
    this.#textBytes += this.#texts.write(text, start, 'latin1');
    return start;
  }

  #numberOfFault(fault: LayerFault): number {
    const key = JSON.stringify(fault);
    const known = this.#faults.get(key) ?? { number: this.#faults.size, fault };
    this.#faults.set(key, known);
    return known.number;
  }
}

function numberOf<K>(key: K, numbers: Map<K, number>): number {
  const number = numbers.get(key) ?? numbers.size;
  numbers.set(key, number);
  return number;
}

function reserve(bytes: Buffer<ArrayBuffer>, wanted: number): Buffer<ArrayBuffer> {
  if (wanted <= bytes.length) return bytes;
  const grown = Buffer.alloc(Math.max(wanted, Math.ceil(1.5 * bytes.length)));
  bytes.copy(grown);
  return grown;
}
