import type { ByteRange } from '../../core/byte-range.ts';
import type { LayerIndex } from '../../index/layer-index.ts';
import { cleanPath, type RawText } from '../../tar/raw-text.ts';

/** A range that a start has read. */
export interface OrderedRange {
  /** Place among all reads of the start. */
  readonly order: number;
  /** In the blob that was requested. */
  readonly range: ByteRange;
}

export interface TouchedFile {
  readonly path: RawText;
  readonly bytes: number;
  /** Share of its bytes that were read, above 0: ranges begin and end within files. */
  readonly readShare: number;
  /** Place of the first read that touched it, among all reads of the start. */
  readonly order: number;
}

export interface LaidReads {
  readonly touched: readonly TouchedFile[];
  /** Regular files of the layer at the known paths, with their sizes. */
  readonly present: ReadonlyMap<RawText, number>;
  /** Ranges that are too large to tell which files the start wanted. */
  readonly coarseReads: number;
}

/** Several files share a span of 4 MiB. */
const MAX_RANGE_BYTES = 2 * 2 ** 20;

/**
 * Lays the ranges that a start has read of a layer over the files of the layer.
 * @param isTar the ranges are offsets in the decompressed layer
 * @param known paths to look for
 */
export function layReads(
  index: LayerIndex,
  reads: readonly OrderedRange[],
  isTar: boolean,
  known: ReadonlySet<RawText>,
): LaidReads {
  const unpacked = isTar ? reads : decompressedRanges(index, reads);
  const small = unpacked.filter(({ range }) => range.end - range.start <= MAX_RANGE_BYTES);
  const fine = withoutNested(small.filter(({ range }) => range.end > range.start));
  const touched = new Map<RawText, TouchedFile>();
  const present = new Map<RawText, number>();
  let first = 0;
  for (const { name, type, uncompressedOffset: start, uncompressedSize: bytes } of index.entries()) {
    if (type !== 'reg') continue;
    const path = cleanPath(name);
    if (known.has(path)) present.set(path, bytes);
    while (first < fine.length && (fine[first]?.range.end ?? 0) <= start) first++;
    const read = readPart(fine, first, { start, end: start + bytes });
    if (read === undefined) continue;
    touched.set(path, { path, bytes, readShare: read.bytes / bytes, order: read.order });
  }
  return { touched: [...touched.values()], present, coarseReads: unpacked.length - small.length };
}

/** Bytes of a file that the reads from `first` on have read, and the earliest of these reads. */
function readPart(
  reads: readonly OrderedRange[],
  first: number,
  file: ByteRange,
): { readonly bytes: number; readonly order: number } | undefined {
  let bytes = 0;
  let order = Number.POSITIVE_INFINITY;
  let countedTo = file.start;
  for (let place = first; place < reads.length; place++) {
    const read = reads[place];
    if (read === undefined || read.range.start >= file.end) break;
    const end = Math.min(read.range.end, file.end);
    if (end <= Math.max(read.range.start, file.start)) continue;
    bytes += Math.max(0, end - Math.max(read.range.start, countedTo));
    countedTo = Math.max(countedTo, end);
    order = Math.min(order, read.order);
  }
  return bytes === 0 ? undefined : { bytes, order };
}

/** In the order of their starts, and so of their ends. */
function withoutNested(reads: readonly OrderedRange[]): OrderedRange[] {
  const sorted = reads.toSorted(({ range: a }, { range: b }) => a.start - b.start || b.end - a.end);
  let end = 0;
  return sorted.filter(({ range }) => {
    const isNested = range.end <= end;
    end = Math.max(end, range.end);
    return !isNested;
  });
}

/**
 * What ranges of the compressed layer decompress to. A gzip header decompresses to nothing, and the first and
 * the last byte of a range may be shared with the spans beside it.
 */
function decompressedRanges(index: LayerIndex, reads: readonly OrderedRange[]): OrderedRange[] {
  const spans = [...index.spans()];
  return reads.flatMap(({ order, range }) => {
    const first = spanAt(spans, range.start + 1);
    const last = spanAt(spans, Math.max(range.start, range.end - 2));
    if (first === undefined || last === undefined) return [];
    return [{ order, range: { start: first.uncompressed.start, end: last.uncompressed.end } }];
  });
}

type SpanRanges = { readonly compressed: ByteRange; readonly uncompressed: ByteRange };

/** The last span that starts at or before a compressed offset: neighbours may share a byte. */
function spanAt(spans: readonly SpanRanges[], compressedOffset: number): SpanRanges | undefined {
  let [low, high] = [0, spans.length];
  while (low < high) {
    const middle = (low + high) >>> 1;
    if ((spans[middle]?.compressed.start ?? 0) <= compressedOffset) low = middle + 1;
    else high = middle;
  }
  return spans[low - 1];
}
