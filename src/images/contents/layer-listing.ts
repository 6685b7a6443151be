import type { ByteRange } from '../../core/byte-range.ts';
import type { ErrorCode } from '../../core/errors.ts';
import { mapInTurns } from '../../core/work/in-own-turn.ts';
import type { LayerIndex } from '../../index/layer-index.ts';
import type { ListFilesQuery } from '../../index/plan-file-page.ts';
import { layerFault, type NoZtocReason, streamFault } from '../../index/layer-summary.ts';
import { describeMode, type DescribedMode } from '../../tar/describe-mode.ts';
import { type Described, describeRawText, type RawText } from '../../tar/raw-text.ts';
import type { EntryType, TocEntry } from '../../tar/toc-entry.ts';
import { storedEnd } from '../../tar/stored-file.ts';

/** A list of spans or files of a layer, as the span API shows it. */
export interface LayerListing {
  /** The layer is at fault: there may be more. */
  readonly incomplete?: ErrorCode;
}

export interface SpanListing extends LayerListing {
  readonly spans: readonly SpanDescription[];
}

export interface SpanDescription {
  readonly id: number;
  /** Offsets in the blob and in the decompressed layer, `[start, end)`. */
  readonly compressed: ByteRange;
  readonly uncompressed: ByteRange;
  /** Of the compressed bytes. */
  readonly digest: string;
  /** Of the decompressed bytes. */
  readonly crc32: number;
}

/** One page of files in the order of their names. */
export interface FileListing extends LayerListing {
  readonly files: readonly FileDescription[];
  /** The `after` of the next page, if there is one. */
  readonly next?: RawText;
}

/** `incomplete`: its data reach into the fault of the layer. */
export interface FileDescription
  extends LayerListing, Described<'name'>, DescribedMode, Partial<Described<'linkname'>> {
  readonly type: EntryType;
  readonly size: number;
  readonly uid: number;
  readonly gid: number;
  readonly mtime: string;
  /** Of the data, in the decompressed layer. */
  readonly offset: number;
}

export function listSpans(index: LayerIndex): SpanListing {
  const spans = Array.from(index.spans(), ({ id, compressed, uncompressed, digest, crc32 }) => ({
    id,
    compressed,
    uncompressed,
    digest,
    crc32,
  }));
  return { spans, ...describeFault(streamFault(index.summary)) };
}

/** Takes turns of the event loop. */
export async function listFiles(index: LayerIndex, query: ListFilesQuery): Promise<FileListing> {
  const { files, next } = index.listFiles(query);
  const fault = layerFault(index.summary);
  const describe = (entry: TocEntry): FileDescription =>
    storedEnd(entry) <= index.summary.uncompressedBytes
      ? describeFile(entry)
      : { ...describeFile(entry), ...describeFault(fault) };
  return {
    files: await mapInTurns(files, describe),
    ...describeFault(fault),
    ...(next === undefined ? {} : { next }),
  };
}

function describeFault(fault: NoZtocReason | undefined): LayerListing {
  return fault === undefined ? {} : { incomplete: fault.code };
}

function describeFile(entry: TocEntry): FileDescription {
  return {
    ...describeRawText('name', entry.name),
    type: entry.type,
    size: entry.uncompressedSize,
    ...describeMode(entry.mode),
    uid: entry.uid,
    gid: entry.gid,
    mtime: entry.modTime,
    ...(entry.linkname === '' ? {} : describeRawText('linkname', entry.linkname)),
    offset: entry.uncompressedOffset,
  };
}
