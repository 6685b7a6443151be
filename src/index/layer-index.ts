import { constants } from 'node:fs';
import { open } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

import { isPassingFault, storeFault } from '../blobs/files/store-fault.ts';
import type { ByteRange } from '../core/byte-range.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { LayerCompression } from '../core/media-types.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import { type ProvenBytes, provenBytes } from '../core/proven-bytes.ts';
import { type ListFilesQuery, planFilePage } from './plan-file-page.ts';
import {
  decodeIndexFooter,
  decodeIndexTrailer,
  findSummary,
  FOOTER_HEAD_BYTES,
  type IndexFooter,
  type IndexTrailer,
  TRAILER_BYTES,
} from './index-footer.ts';
import type { LayerIndexView } from './layer-index-view.ts';
import { type LayerSummary, parseLayerSummary } from './layer-summary.ts';
import { PathOrder } from './path-order.ts';
import { cleanPath, type RawText } from '../tar/raw-text.ts';
import type { ReadSpan, Span } from '../ztoc/span.ts';
import type { StoredWindow } from './stored-window.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

const FIXED_MEMORY_BYTES = 1024;
const PIECE_BYTES = 2 ** 20;

/**
 * The complete index of one layer. Spans and files are packed in memory. Windows stay in the file, which is
 * open only while one is read, so an index needs no disposal.
 */
export class LayerIndex implements LayerIndexView {
  readonly summary: LayerSummary;
  /** Memory that the index takes. */
  readonly memoryBytes: number;
  /** CRC-32 of everything except the windows. */
  readonly checksum: number;
  readonly #footer: IndexFooter;
  readonly #paths: PathOrder;
  readonly #file: StoredWindow['file'];
  readonly unverifiedBuild = undefined;

  private constructor(
    footer: IndexFooter,
    checksum: number,
    memoryBytes: number,
    file: StoredWindow['file'],
  ) {
    this.summary = footer.summary;
    this.memoryBytes = memoryBytes + FIXED_MEMORY_BYTES;
    this.checksum = checksum;
    this.#footer = footer;
    this.#paths = new PathOrder(footer.entries, footer.order);
    this.#file = file;
  }

  /**
   * @param laterNames names that the file may get while the index is in use
   * @throws SpandrelError INDEX_MALFORMED, also if the file cannot be read; STORE_FAILED for a passing fault
   * of the disk; the system's ENOENT if there is no file
   */
  static open(path: string, ...laterNames: string[]): Promise<LayerIndex> {
    return readIndexFile(path, async (trailer, read) => {
      const { footerBytes, footerCrc32 } = trailer;
      const footer = Buffer.allocUnsafeSlow(footerBytes);
      let sum = 0;
      // In pieces: one checksum over everything would block the event loop.
      for (let at = 0; at < footerBytes; at += PIECE_BYTES) {
        const piece = await read(at, Math.min(at + PIECE_BYTES, footerBytes));
        piece.copy(footer, at);
        sum = crc32(piece, sum);
      }
      const decoded = decodeIndexFooter(footer, trailer, sum);
      return new LayerIndex(decoded, footerCrc32, footerBytes, [path, ...laterNames]);
    });
  }

  /**
   * Reads only the summary, without its checksum: three small reads.
   * @throws as {@link LayerIndex.open}
   */
  static readSummary(path: string): Promise<LayerSummary> {
    return readIndexFile(path, async (_trailer, read) => {
      const { start, end } = findSummary(await read(0, FOOTER_HEAD_BYTES));
      return parseLayerSummary((await read(start, end)).toString());
    });
  }

  /**
   * The index in the bytes of its file, which it keeps.
   * @throws SpandrelError INDEX_MALFORMED
   */
  static fromBytes(bytes: Uint8Array): LayerIndex {
    const file = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const trailer = decodeIndexTrailer(file.subarray(-TRAILER_BYTES), file.length);
    const { footerOffset, footerBytes } = trailer;
    // A copy is aligned.
    const footer = Buffer.alloc(footerBytes);
    file.copy(footer, 0, footerOffset, footerOffset + footerBytes);
    const decoded = decodeIndexFooter(footer, trailer, crc32(footer));
    return new LayerIndex(decoded, trailer.footerCrc32, file.length + footerBytes, file);
  }

  /** The same index with the final name of its file. */
  named(path: string): LayerIndex {
    return new LayerIndex(this.#footer, this.checksum, this.memoryBytes - FIXED_MEMORY_BYTES, [path]);
  }

  assertSound(): void {
    // A complete index is built from verified bytes.
  }

  get compression(): LayerCompression {
    return this.summary.compression;
  }

  get layerBytes(): ProvenBytes {
    return provenBytes(this.summary.layerBytes);
  }

  async readSpans(range: ByteRange): Promise<readonly ReadSpan[]> {
    const { spans, readSpans } = this.#footer;
    return (this.compression === 'gzip' ? readSpans : spans).within(range);
  }

  async span(id: number): Promise<Span | undefined> {
    return this.#footer.spans.get(id);
  }

  window(span: ReadSpan): StoredWindow {
    return { record: this.#footer.readSpans.window(span.id), file: this.#file };
  }

  async findFile(path: RawText): Promise<TocEntry | undefined> {
    return this.#findBefore(path, Number.POSITIVE_INFINITY);
  }

  async findLinked({ linkname, uncompressedOffset }: TocEntry): Promise<TocEntry | undefined> {
    return this.#findBefore(linkname, uncompressedOffset);
  }

  /** The last entry at a path that precedes an offset in the decompressed layer. */
  #findBefore(path: RawText, uncompressedOffset: number): TocEntry | undefined {
    const cleaned = cleanPath(path);
    const entryAt = (place: number): TocEntry | undefined =>
      this.#footer.entries.at(this.#paths.entryAt(place));
    // Entries at the same path are in archive order.
    const first = this.#paths.lowerBound(cleaned);
    let [low, high] = [first, this.#paths.upperBound(cleaned)];
    while (low < high) {
      const middle = (low + high) >>> 1;
      const entry = entryAt(middle);
      if (entry !== undefined && entry.uncompressedOffset < uncompressedOffset) low = middle + 1;
      else high = middle;
    }
    return low === first ? undefined : entryAt(low - 1);
  }

  async finished(): Promise<LayerIndex> {
    return this;
  }

  /** The spans of the zTOC. */
  spans(): Iterable<Span> {
    return this.#footer.spans;
  }

  /** All entries in archive order. */
  *entries(): Generator<TocEntry> {
    const { entries } = this.#footer;
    for (let index = 0; index < entries.length; index++) {
      const entry = entries.at(index);
      if (entry !== undefined) yield entry;
    }
  }

  /** A page of entries in the order of their cleaned paths; `next` is the `after` of the next page. */
  listFiles(query: ListFilesQuery): { files: TocEntry[]; next?: RawText } {
    const { places, next } = planFilePage(this.#paths, query);
    const files = places.map((place) => this.#footer.entries.at(this.#paths.entryAt(place)));
    return { files: files.filter((entry) => entry !== undefined), ...(next === undefined ? {} : { next }) };
  }
}

/**
 * @param work gets the trailer and a function that reads ranges of the footer
 * @throws as {@link LayerIndex.open}
 */
async function readIndexFile<T>(
  path: string,
  work: (trailer: IndexTrailer, read: (start: number, end: number) => Promise<Buffer>) => Promise<T>,
): Promise<T> {
  try {
    await using file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    const { size } = await file.stat();
    const readAt = async (start: number, end: number): Promise<Buffer> => {
      const { buffer, bytesRead } = await file.read(Buffer.alloc(end - start), 0, end - start, start);
      return buffer.subarray(0, bytesRead);
    };
    const trailer = decodeIndexTrailer(await readAt(Math.max(0, size - TRAILER_BYTES), size), size);
    const { footerOffset } = trailer;
    return await work(trailer, (start, end) => readAt(footerOffset + start, footerOffset + end));
  } catch (error) {
    if (isSpandrelError(error) || nodeErrorCode(error) === 'ENOENT') throw error;
    if (isPassingFault(error)) throw storeFault(error, 'open an index');
    throw new SpandrelError('INDEX_MALFORMED', 'the index file cannot be read', { cause: error });
  }
}
