import { crc32 } from 'node:zlib';

import type { ByteRange } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import { type LayerSummary, parseLayerSummary } from './layer-summary.ts';
import { ReadSpanTable } from './read-span-table.ts';
import { SpanTable } from './span-table.ts';
import { TocRecords } from './toc-records.ts';

/** Everything in an index except the windows. */
export interface IndexFooter {
  readonly summary: LayerSummary;
  readonly spans: SpanTable;
  /** Empty unless the layer is gzip. */
  readonly readSpans: ReadSpanTable;
  readonly entries: TocRecords;
  /** Numbers of the entries, sorted by path. */
  readonly order: Int32Array;
}

/** Position and checksum of a footer. */
export interface IndexTrailer {
  readonly footerOffset: number;
  readonly footerBytes: number;
  readonly footerCrc32: number;
}

const MAGIC = Buffer.from('SPANDREL');
/**
 * Increase it with every change of the layout, the summary, or what a build makes of a layer. Files of other
 * versions are rebuilt.
 */
export const INDEX_FORMAT_VERSION = 6;
// Trailer: magic, version, CRC-32, then footer offset and length as doubles.
const TRAILER_AT = { version: 8, crc32: 12, footerOffset: 16, footerBytes: 24 } as const;
export const TRAILER_BYTES = 32;
// Footer: the lengths of its sections, then the sections. Sections of numbers come first, to be aligned.
const SECTIONS = 6;
const SUMMARY_SECTION = 2;
export const FOOTER_HEAD_BYTES = 4 * SECTIONS;
const MAX_SUMMARY_BYTES = 2 ** 20;

/** The end of an index file: footer and trailer. */
export function encodeIndexFooter(footer: IndexFooter, footerOffset: number): Buffer[] {
  const { bytes, offsets } = footer.entries.encode();
  const sections = [
    asBytes(offsets),
    asBytes(footer.order),
    Buffer.from(JSON.stringify(footer.summary)),
    footer.spans.encode(),
    footer.readSpans.encode(),
    bytes,
  ];
  const head = Buffer.alloc(FOOTER_HEAD_BYTES);
  for (const [index, section] of sections.entries()) head.writeUInt32LE(section.length, 4 * index);
  const parts = [head, ...sections];
  const trailer = Buffer.alloc(TRAILER_BYTES);
  MAGIC.copy(trailer);
  trailer.writeUInt32LE(INDEX_FORMAT_VERSION, TRAILER_AT.version);
  trailer.writeUInt32LE(
    parts.reduce((crc, part) => crc32(part, crc), 0),
    TRAILER_AT.crc32,
  );
  trailer.writeDoubleLE(footerOffset, TRAILER_AT.footerOffset);
  trailer.writeDoubleLE(
    parts.reduce((sum, part) => sum + part.length, 0),
    TRAILER_AT.footerBytes,
  );
  return [...parts, trailer];
}

/**
 * @param trailer the last {@link TRAILER_BYTES} of the file; fewer if the file is shorter
 * @throws SpandrelError INDEX_MALFORMED, also for files of another format version
 */
export function decodeIndexTrailer(trailer: Buffer, fileBytes: number): IndexTrailer {
  if (trailer.length !== TRAILER_BYTES || !trailer.subarray(0, MAGIC.length).equals(MAGIC))
    throw malformed('it has no trailer');
  const version = trailer.readUInt32LE(TRAILER_AT.version);
  if (version !== INDEX_FORMAT_VERSION) throw malformed(`it is of version ${version}`);
  const footerOffset = trailer.readDoubleLE(TRAILER_AT.footerOffset);
  const footerBytes = trailer.readDoubleLE(TRAILER_AT.footerBytes);
  const isPlace = Number.isSafeInteger(footerOffset) && footerOffset >= 0 && footerBytes >= FOOTER_HEAD_BYTES;
  if (!isPlace || footerOffset + footerBytes + TRAILER_BYTES !== fileBytes) {
    throw malformed('its length is wrong');
  }
  return { footerOffset, footerBytes, footerCrc32: trailer.readUInt32LE(TRAILER_AT.crc32) };
}

/**
 * The range of the summary within a footer.
 * @param head the first {@link FOOTER_HEAD_BYTES}
 * @throws SpandrelError INDEX_MALFORMED
 */
export function findSummary(head: Buffer): ByteRange {
  const lengths = sectionLengths(head);
  const start = lengths.slice(0, SUMMARY_SECTION).reduce((sum, length) => sum + length, FOOTER_HEAD_BYTES);
  return { start, end: start + checkSummaryBytes(lengths[SUMMARY_SECTION] ?? 0) };
}

/**
 * @param footer kept by the result; must be aligned to four bytes in its buffer
 * @param sum the CRC-32 of `footer`
 * @throws SpandrelError INDEX_MALFORMED
 */
export function decodeIndexFooter(footer: Buffer, trailer: IndexTrailer, sum: number): IndexFooter {
  if (footer.length !== trailer.footerBytes || sum !== trailer.footerCrc32)
    throw malformed('its checksum is wrong');
  let at = FOOTER_HEAD_BYTES;
  const [offsets, order, json, spanRecords, readSpanRecords, entryBytes] = sectionLengths(footer).map(
    (length) => footer.subarray(at, (at += length)),
  );
  if (
    at !== footer.length ||
    offsets === undefined ||
    order === undefined ||
    json === undefined ||
    spanRecords === undefined ||
    readSpanRecords === undefined ||
    entryBytes === undefined
  ) {
    throw malformed('its sections do not match its length');
  }
  checkSummaryBytes(json.length);
  const summary = parseLayerSummary(json.toString());
  const files = summary.fileCount;
  if (offsets.length !== 4 * files || order.length !== 4 * files)
    throw malformed('its number of files is wrong');
  const spans = decodeSpans(summary, spanRecords);
  if (spans.length !== summary.spanCount) throw malformed('its number of spans is wrong');
  return {
    summary,
    spans,
    readSpans: decodeReadSpans(summary, readSpanRecords, trailer.footerOffset),
    entries: TocRecords.decode(entryBytes, new Uint32Array(offsets.buffer, offsets.byteOffset, files)),
    order: new Int32Array(order.buffer, order.byteOffset, files),
  };
}

function sectionLengths(footer: Buffer): number[] {
  if (footer.length < FOOTER_HEAD_BYTES) throw malformed('its footer is too short');
  return Array.from({ length: SECTIONS }, (_, index) => footer.readUInt32LE(4 * index));
}

function checkSummaryBytes(bytes: number): number {
  if (bytes > MAX_SUMMARY_BYTES) throw malformed('its summary is too long');
  return bytes;
}

function decodeSpans(summary: LayerSummary, records: Buffer): SpanTable {
  // A span of a gzip layer ends where the stream lets it; its length is checked against its compressed bytes.
  const maxSpanBytes = summary.compression === 'gzip' ? Number.MAX_SAFE_INTEGER : summary.spanBytes;
  return SpanTable.decode(records, { ...summary, maxSpanBytes });
}

function decodeReadSpans(summary: LayerSummary, records: Buffer, windowsEnd: number): ReadSpanTable {
  const maxSpanBytes = Number.MAX_SAFE_INTEGER;
  if (summary.compression === 'gzip')
    return ReadSpanTable.decode(records, { ...summary, maxSpanBytes, windowsEnd });
  if (records.length > 0) throw malformed('only gzip layers have read spans');
  return new ReadSpanTable();
}

function asBytes(numbers: Uint32Array | Int32Array): Buffer {
  return Buffer.from(numbers.buffer, numbers.byteOffset, numbers.byteLength);
}

function malformed(problem: string): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', `the index file is damaged: ${problem}`);
}
