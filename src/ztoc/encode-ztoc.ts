import { Builder } from 'flatbuffers';

import { SpandrelError } from '../core/errors.ts';
import { encodeRawText, type RawText } from '../tar/raw-text.ts';
import type { Ztoc } from './ztoc.ts';
import { type TocEntry, type TocEntryList, ztocEntryType } from '../tar/toc-entry.ts';

/** Field numbers of `ztoc/fbs/ztoc.fbs`. */
export const ZTOC_SLOTS = {
  ztoc: { version: 0, buildTool: 1, compressedSize: 2, uncompressedSize: 3, toc: 4, compressionInfo: 5 },
  toc: { metadata: 0 },
  file: {
    name: 0,
    type: 1,
    uncompressedOffset: 2,
    uncompressedSize: 3,
    linkname: 4,
    mode: 5,
    uid: 6,
    gid: 7,
    uname: 8,
    gname: 9,
    modTime: 10,
    devMajor: 11,
    devMinor: 12,
    xattrs: 13,
  },
  xattr: { key: 0, value: 1 },
  compressionInfo: { algorithm: 0, maxSpanId: 1, spanDigests: 2, checkpoints: 3 },
} as const;

/** The enum `CompressionAlgorithm`; gzip is the default in the schema. */
export const ZTOC_ALGORITHMS = { gzip: 1, none: 2 } as const;

const OFFSET_BYTES = 4;

/**
 * Wraps the flatbuffer builder. The caller adds the fields of a table in the order in which `soci` adds them.
 */
class FlatWriter {
  readonly builder: Builder;

  constructor(initialBytes: number) {
    this.builder = new Builder(initialBytes);
  }

  text(text: string): number {
    return this.builder.createString(text);
  }

  raw(raw: RawText): number {
    return this.builder.createString(encodeRawText(raw));
  }

  vector(offsets: ArrayLike<number>): number {
    this.builder.startVector(OFFSET_BYTES, offsets.length, OFFSET_BYTES);
    for (let index = offsets.length - 1; index >= 0; index--) this.builder.addOffset(offsets[index] ?? 0);
    return this.builder.endVector();
  }

  long(slot: number, value: number): void {
    this.builder.addFieldInt64(slot, BigInt(value), 0n);
  }
}

/**
 * The bytes that `soci` writes for this zTOC: objects are built in the same order and never shared
 * (soci-snapshotter `ztoc/ztoc_marshaler.go`).
 * @throws SpandrelError LAYER_TOO_LARGE from about 1 GiB on, where the builder cannot grow further
 */
export function encodeZtoc(ztoc: Ztoc): Uint8Array<ArrayBuffer> {
  try {
    return writeZtoc(ztoc);
  } catch (error) {
    if (!(error instanceof Error && error.message.startsWith('FlatBuffers: cannot grow'))) throw error;
    throw new SpandrelError('LAYER_TOO_LARGE', 'the zTOC of the layer would be too large', { cause: error });
  }
}

function writeZtoc(ztoc: Ztoc): Uint8Array<ArrayBuffer> {
  // An estimate of the final size saves the builder from doubling, and so copying, many times.
  const writer = new FlatWriter(
    ztoc.checkpoints.length + 96 * ztoc.spanDigests.length + 256 * ztoc.entries.length + 1024,
  );
  const { builder } = writer;
  const { ztoc: slots, compressionInfo: infoSlots } = ZTOC_SLOTS;
  const version = writer.text(ztoc.version);
  const buildTool = writer.text(ztoc.buildTool);
  const toc = writeToc(writer, ztoc.entries);
  const checkpoints = builder.createByteVector(ztoc.checkpoints);
  const spanDigests = writer.vector(ztoc.spanDigests.map((digest) => writer.text(digest)));

  builder.startObject(4);
  builder.addFieldInt32(infoSlots.maxSpanId, ztoc.maxSpanId, 0);
  builder.addFieldOffset(infoSlots.spanDigests, spanDigests, 0);
  builder.addFieldOffset(infoSlots.checkpoints, checkpoints, 0);
  builder.addFieldInt8(infoSlots.algorithm, ZTOC_ALGORITHMS[ztoc.compression], ZTOC_ALGORITHMS.gzip);
  const compressionInfo = builder.endObject();

  builder.startObject(6);
  builder.addFieldOffset(slots.version, version, 0);
  builder.addFieldOffset(slots.buildTool, buildTool, 0);
  builder.addFieldOffset(slots.toc, toc, 0);
  writer.long(slots.compressedSize, ztoc.compressedArchiveSize);
  writer.long(slots.uncompressedSize, ztoc.uncompressedArchiveSize);
  builder.addFieldOffset(slots.compressionInfo, compressionInfo, 0);
  builder.finish(builder.endObject());
  // A copy releases the builder's larger buffer.
  return new Uint8Array(builder.asUint8Array());
}

function writeToc(writer: FlatWriter, entries: TocEntryList): number {
  const { builder } = writer;
  const files = new Uint32Array(entries.length);
  for (let index = entries.length - 1; index >= 0; index--) {
    const entry = entries.at(index);
    if (entry !== undefined) files[index] = writeFile(writer, entry);
  }
  const metadata = writer.vector(files);
  builder.startObject(1);
  builder.addFieldOffset(ZTOC_SLOTS.toc.metadata, metadata, 0);
  return builder.endObject();
}

function writeFile(writer: FlatWriter, entry: TocEntry): number {
  const { builder } = writer;
  const { file: slots } = ZTOC_SLOTS;
  const name = writer.raw(entry.name);
  const type = writer.text(ztocEntryType(entry.type));
  const linkname = writer.raw(entry.linkname);
  const uname = writer.raw(entry.uname);
  const gname = writer.raw(entry.gname);
  const modTime = writer.text(entry.modTime);
  const xattrs = writeXattrs(writer, entry.paxRecords);

  builder.startObject(14);
  builder.addFieldOffset(slots.name, name, 0);
  builder.addFieldOffset(slots.type, type, 0);
  writer.long(slots.uncompressedOffset, entry.uncompressedOffset);
  writer.long(slots.uncompressedSize, entry.uncompressedSize);
  builder.addFieldOffset(slots.linkname, linkname, 0);
  writer.long(slots.mode, entry.mode);
  builder.addFieldInt32(slots.uid, entry.uid, 0);
  builder.addFieldInt32(slots.gid, entry.gid, 0);
  builder.addFieldOffset(slots.uname, uname, 0);
  builder.addFieldOffset(slots.gname, gname, 0);
  builder.addFieldOffset(slots.modTime, modTime, 0);
  writer.long(slots.devMajor, entry.devMajor);
  writer.long(slots.devMinor, entry.devMinor);
  builder.addFieldOffset(slots.xattrs, xattrs, 0);
  return builder.endObject();
}

function writeXattrs(writer: FlatWriter, records: ReadonlyMap<RawText, RawText>): number {
  const { builder } = writer;
  const sorted = [...records].sort(([a], [b]) => (a < b ? -1 : 1));
  const xattrs = sorted.map(([key, value]) => {
    const keyText = writer.raw(key);
    const valueText = writer.raw(value);
    builder.startObject(2);
    builder.addFieldOffset(ZTOC_SLOTS.xattr.key, keyText, 0);
    builder.addFieldOffset(ZTOC_SLOTS.xattr.value, valueText, 0);
    return builder.endObject();
  });
  return writer.vector(xattrs);
}
