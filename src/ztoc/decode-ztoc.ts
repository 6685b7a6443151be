import { type Digest, isDigest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { ZTOC_ALGORITHMS, ZTOC_SLOTS } from './encode-ztoc.ts';
import { FlatBuffer, type FlatTable } from './flat-buffer.ts';
import { decodeGzipZinfo } from './gzip-zinfo.ts';
import { printRawText, type RawText } from '../tar/raw-text.ts';
import { decodeTarZinfo, tarMaxSpanId } from './tar-zinfo.ts';
import { type Ztoc, type ZtocCompression, ZTOC_VERSION } from './ztoc.ts';
import { type EntryType, type TocEntry, ZTOC_ENTRY_TYPES } from '../tar/toc-entry.ts';

export interface ZtocLimits {
  /** Most files of the layer; unlimited by default. */
  readonly maxTocEntries?: number;
}

/** A zTOC with all its entries in memory. */
export type DecodedZtoc = Ztoc & { readonly entries: readonly TocEntry[] };

/** The largest flatbuffer: its offsets are signed 32-bit numbers. */
export const MAX_FLATBUFFER_BYTES = 2 ** 31 - 1;

const TIME = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?(?:Z|[+-]\d\d:\d\d)$/;
const NO_RECORDS: ReadonlyMap<RawText, RawText> = new Map();

/**
 * Decodes a zTOC and checks that it is consistent: as many digests as checkpoints, all offsets within the
 * layer. `checkpoints` shares memory with `bytes`. Memory is proportional to `bytes`, whatever they contain.
 * @throws SpandrelError INDEX_MALFORMED, also for more files than `limits` allow
 */
export function decodeZtoc(bytes: Uint8Array, limits: ZtocLimits = {}): DecodedZtoc {
  if (bytes.length > MAX_FLATBUFFER_BYTES) throw malformed('it is larger than 2 GiB');
  const { ztoc: slots, toc: tocSlots, compressionInfo: infoSlots } = ZTOC_SLOTS;
  const table = new FlatBuffer(bytes).root();
  const version = printRawText(table.raw(slots.version));
  if (version !== ZTOC_VERSION) throw malformed(`its version is ${JSON.stringify(version.slice(0, 20))}`);
  const info = table.table(slots.compressionInfo);
  if (info === undefined) throw malformed('it has no checkpoints');
  const files = table.table(slots.toc)?.tables(tocSlots.metadata) ?? [];
  if (files.length > (limits.maxTocEntries ?? Number.POSITIVE_INFINITY))
    throw malformed(`it has more than ${limits.maxTocEntries} files`);

  const ztoc = {
    version,
    buildTool: printRawText(table.raw(slots.buildTool)),
    compressedArchiveSize: table.int64(slots.compressedSize),
    uncompressedArchiveSize: table.int64(slots.uncompressedSize),
    entries: files.map(readEntry),
    compression: readCompression(info.int8(infoSlots.algorithm, ZTOC_ALGORITHMS.gzip)),
    maxSpanId: info.int32(infoSlots.maxSpanId),
    spanDigests: info.raws(infoSlots.spanDigests).map(readDigest),
    checkpoints: info.bytes(infoSlots.checkpoints),
  };
  checkSizes(ztoc);
  return ztoc;
}

function checkSizes(ztoc: DecodedZtoc): void {
  const { compressedArchiveSize, uncompressedArchiveSize, maxSpanId, spanDigests } = ztoc;
  if (compressedArchiveSize < 0 || uncompressedArchiveSize < 0) throw malformed('a size is negative');
  if (spanDigests.length !== maxSpanId + 1) throw malformed('it has more or fewer digests than spans');
  if (lastSpan(ztoc) !== maxSpanId) throw malformed('it has more or fewer checkpoints than spans');
  for (const { type, uncompressedOffset, uncompressedSize } of ztoc.entries) {
    const isInside = uncompressedOffset >= 0 && uncompressedOffset <= uncompressedArchiveSize;
    // A link may state any size: it has no data.
    if (!isInside || (type === 'reg' && uncompressedSize < 0))
      throw malformed('a file lies outside the layer');
  }
}

function lastSpan({
  compression,
  checkpoints,
  compressedArchiveSize,
  uncompressedArchiveSize,
}: Ztoc): number {
  if (compression === 'none') {
    const zinfo = decodeTarZinfo(checkpoints);
    if (zinfo.sizeBytes !== compressedArchiveSize)
      throw malformed('it states two different sizes of the layer');
    return tarMaxSpanId(zinfo);
  }
  const zinfo = decodeGzipZinfo(checkpoints);
  const last = zinfo.checkpoints.at(-1);
  if (last !== undefined && last.compressedOffset > compressedArchiveSize) {
    throw malformed('a checkpoint lies outside the layer');
  }
  // Checkpoints may lie behind the end of the archive: the stream may continue after it.
  if (uncompressedArchiveSize > 0 && last === undefined) throw malformed('it has no checkpoints');
  return zinfo.checkpoints.length - 1;
}

function readEntry(file: FlatTable): TocEntry {
  const { file: slots, xattr } = ZTOC_SLOTS;
  const records = file
    .tables(slots.xattrs)
    .map((record) => [record.raw(xattr.key), record.raw(xattr.value)] as const);
  const paxRecords = records.length === 0 ? NO_RECORDS : new Map(records);
  return {
    name: file.raw(slots.name),
    type: readType(file.raw(slots.type)),
    uncompressedOffset: file.int64(slots.uncompressedOffset),
    uncompressedSize: file.int64(slots.uncompressedSize),
    linkname: file.raw(slots.linkname),
    mode: file.int64(slots.mode),
    uid: file.uint32(slots.uid),
    gid: file.uint32(slots.gid),
    uname: file.raw(slots.uname),
    gname: file.raw(slots.gname),
    modTime: readTime(file.raw(slots.modTime)),
    devMajor: file.int64(slots.devMajor),
    devMinor: file.int64(slots.devMinor),
    paxRecords,
  };
}

/** Go prints times in the local zone unless TZ says otherwise. */
function readTime(text: string): string {
  if (text === '' || TIME.test(text)) return text;
  throw malformed('a file has a malformed time');
}

function readType(text: string): EntryType {
  const type = ZTOC_ENTRY_TYPES.find((known) => known === text);
  if (type === undefined) throw malformed(`a file has the unknown type ${JSON.stringify(text.slice(0, 20))}`);
  return type;
}

function readCompression(algorithm: number): ZtocCompression {
  if (algorithm === ZTOC_ALGORITHMS.gzip) return 'gzip';
  if (algorithm === ZTOC_ALGORITHMS.none) return 'none';
  throw malformed(`its compression algorithm ${algorithm} is unknown`);
}

function readDigest(text: string): Digest {
  if (!isDigest(text)) throw malformed('the digest of a span is malformed');
  return text;
}

function malformed(problem: string): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', `the zTOC is damaged: ${problem}`);
}
