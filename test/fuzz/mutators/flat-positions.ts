import { ZTOC_SLOTS } from '../../../src/ztoc/encode-ztoc.ts';

/** Position of a field in a flatbuffer. */
export interface FlatPosition {
  readonly kind: 'reference' | 'vtable reference' | 'vtable entry' | 'length' | 'scalar';
  readonly at: number;
  readonly bytes: 1 | 2 | 4 | 8;
}

/** A field: the width of a scalar, or the target of a reference. */
type Field = 1 | 4 | 8 | 'text' | 'texts' | { readonly table: Fields } | { readonly tables: Fields };
type Fields = Readonly<Record<number, Field>>;

const { ztoc, toc, file, xattr, compressionInfo } = ZTOC_SLOTS;
const FILE: Fields = {
  [file.name]: 'text',
  [file.type]: 'text',
  [file.uncompressedOffset]: 8,
  [file.uncompressedSize]: 8,
  [file.linkname]: 'text',
  [file.mode]: 8,
  [file.uid]: 4,
  [file.gid]: 4,
  [file.uname]: 'text',
  [file.gname]: 'text',
  [file.modTime]: 'text',
  [file.devMajor]: 8,
  [file.devMinor]: 8,
  [file.xattrs]: { tables: { [xattr.key]: 'text', [xattr.value]: 'text' } },
};
const ZTOC: Fields = {
  [ztoc.version]: 'text',
  [ztoc.buildTool]: 'text',
  [ztoc.compressedSize]: 8,
  [ztoc.uncompressedSize]: 8,
  [ztoc.toc]: { table: { [toc.metadata]: { tables: FILE } } },
  [ztoc.compressionInfo]: {
    table: {
      [compressionInfo.algorithm]: 1,
      [compressionInfo.maxSpanId]: 4,
      [compressionInfo.spanDigests]: 'texts',
      [compressionInfo.checkpoints]: 'text',
    },
  },
};

/** All field positions of a well-formed zTOC. */
export function findZtocPositions(bytes: Buffer): FlatPosition[] {
  const found: FlatPosition[] = [{ kind: 'reference', at: 0, bytes: 4 }];
  walkTable(bytes, bytes.readUInt32LE(0), ZTOC, found);
  return found;
}

function walkTable(bytes: Buffer, table: number, fields: Fields, found: FlatPosition[]): void {
  const vtable = table - bytes.readInt32LE(table);
  found.push({ kind: 'vtable reference', at: table, bytes: 4 });
  const vtableBytes = bytes.readUInt16LE(vtable);
  for (let at = vtable; at < vtable + vtableBytes; at += 2)
    found.push({ kind: 'vtable entry', at, bytes: 2 });
  for (const [slot, field] of Object.entries(fields)) {
    const entry = 4 + 2 * Number(slot);
    const offset = entry < vtableBytes ? bytes.readUInt16LE(vtable + entry) : 0;
    if (offset === 0) continue;
    if (typeof field === 'number') found.push({ kind: 'scalar', at: table + offset, bytes: field });
    else walkReference(bytes, table + offset, field, found);
  }
}

function walkReference(
  bytes: Buffer,
  at: number,
  field: Exclude<Field, number>,
  found: FlatPosition[],
): void {
  found.push({ kind: 'reference', at, bytes: 4 });
  const target = at + bytes.readUInt32LE(at);
  if (typeof field === 'object' && 'table' in field) {
    walkTable(bytes, target, field.table, found);
    return;
  }
  found.push({ kind: 'length', at: target, bytes: 4 });
  if (field === 'text') return;
  for (let index = 0; index < bytes.readUInt32LE(target); index++) {
    const element = target + 4 + 4 * index;
    walkReference(bytes, element, field === 'texts' ? 'text' : { table: field.tables }, found);
  }
}
