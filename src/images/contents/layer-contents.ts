import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { ListFilesQuery } from '../../index/plan-file-page.ts';
import type { LayerIndexView } from '../../index/layer-index-view.ts';
import { layerFault, type NoZtocReason, streamFault } from '../../index/layer-summary.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { LayerReader } from '../../spans/layer-reader.ts';
import { readSparseFile } from '../../spans/read-sparse-file.ts';
import { describeRawText, type RawText } from '../../tar/raw-text.ts';
import { SparseRegions } from '../../tar/sparse-regions.ts';
import type { TocEntry } from '../../tar/toc-entry.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';
import type { Target } from '../../upstream/target.ts';
import type { Layers } from '../lazy/layers.ts';
import type { ByteStream, Content, ContentReader, UnsizedContent } from './content.ts';
import { type FileListing, listFiles, listSpans, type SpanListing } from './layer-listing.ts';
import { isReadable, type StoredFile, storedEnd } from '../../tar/stored-file.ts';

export interface LayerContentsDeps {
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly reader: LayerReader;
}

/** What a request for a decompressed layer needs, which decides whether its response can begin early. */
export interface TarRequest extends ContentReader {
  /** The client wants all of it, and nothing that only the finished index tells. */
  readonly isWhole: boolean;
  /** The client wants one closed range. Offsets in the decompressed layer. */
  readonly range: ByteRange | undefined;
  /** The response depends on the ETag. */
  readonly needsEtag: boolean;
}

/** A slice of a decompressed layer. */
interface Slice {
  readonly layer: AuthorizedLayer;
  readonly index: LayerIndexView;
  /** Offsets in the decompressed layer, `[start, end)`. */
  readonly start: number;
  readonly end: number;
  readonly etag?: string | undefined;
  /** The slice holds the stored bytes of a sparse file. */
  readonly sparse?: { readonly sizeBytes: number; readonly regions: SparseRegions };
}

/** A hard link may lead to another one. */
const MAX_HARD_LINKS = 40;
const WHOLE: ByteRange = { start: 0, end: Number.POSITIVE_INFINITY };

/**
 * Spans, files and decompressed bytes of layers. The first request for a layer starts its fill and its build.
 * All methods throw as `Layers.readableLayer`, fills and builds do.
 */
export class LayerContents {
  readonly #deps: LayerContentsDeps;

  constructor(deps: LayerContentsDeps) {
    this.#deps = deps;
  }

  /** All spans of a layer. Waits for the index. */
  async spans(target: Target, digest: Digest, signal: AbortSignal): Promise<SpanListing> {
    const layer = await this.#deps.layers.readableLayer(target, digest, signal);
    return listSpans(await this.#deps.indexes.ensure(layer, signal));
  }

  /** One page of the files of a layer. Waits for the index. */
  async files(
    target: Target,
    digest: Digest,
    query: ListFilesQuery,
    signal: AbortSignal,
  ): Promise<FileListing> {
    const layer = await this.#deps.layers.readableLayer(target, digest, signal);
    return listFiles(await this.#deps.indexes.ensure(layer, signal), query);
  }

  /**
   * The decompressed bytes of one span.
   * @throws SpandrelError SPAN_UNKNOWN; LAYER_CORRUPT if a fault may hide it
   */
  async span(target: Target, digest: Digest, spanId: number, reader: ContentReader): Promise<Content> {
    const { signal } = reader;
    const layer = await this.#deps.layers.readableLayer(target, digest, signal);
    const index = await this.#deps.indexes.open(layer, signal);
    const span = await index.span(spanId, signal);
    if (span === undefined) {
      throwIfFaulty(streamFault((await index.finished(signal)).summary));
      throw new SpandrelError('SPAN_UNKNOWN', `the layer has no span ${spanId}`);
    }
    const { start, end } = span.uncompressed;
    return this.#slice({ layer, index, start, end }, reader);
  }

  /**
   * The decompressed layer. While its index is being built, its size is unknown, and a request that needs no
   * size gets a part at once. If the stream is damaged, the size stays unknown, and only closed ranges before
   * the fault can be read.
   * @throws SpandrelError LAYER_CORRUPT with the `readableSize`
   */
  async tar(target: Target, digest: Digest, request: TarRequest): Promise<Content | UnsizedContent> {
    const { indexes, layers } = this.#deps;
    const { signal } = request;
    const layer = await layers.readableLayer(target, digest, signal);
    let index = await indexes.open(layer, signal);
    if (index.unverifiedBuild !== undefined) {
      const early = await this.#early(layer, index, request);
      if (early !== undefined) return early;
      await indexes.ensure(layer, signal);
      index = await indexes.open(layer, signal);
    }
    const { summary } = await index.finished(signal);
    const { diffId, uncompressedBytes: end } = summary;
    const fault = streamFault(summary);
    if (fault === undefined) return this.#slice({ layer, index, start: 0, end, etag: diffId }, request);
    const part = await this.#closedRange(layer, index, request);
    if (part !== undefined) return part;
    throw new SpandrelError(fault.code, fault.message, { detail: { readableSize: end } });
  }

  /**
   * A file of a layer. Hard links are followed within the layer. While the index is being built, a later
   * entry of the same name may still come, so the content is not immutable.
   * @throws SpandrelError FILE_UNKNOWN; FILE_NOT_REGULAR; as {@link fileContent}
   */
  async file(target: Target, digest: Digest, path: RawText, reader: ContentReader): Promise<Content> {
    const { signal } = reader;
    const layer = await this.#deps.layers.readableLayer(target, digest, signal);
    const index = await this.#deps.indexes.open(layer, signal);
    const isImmutable = index.unverifiedBuild === undefined;
    const entry = await findRegularFile(index, path, signal);
    return { ...(await this.#fileSlice(layer, index, entry, reader)), isImmutable };
  }

  /**
   * The bytes of a regular file whose entry is known.
   * @throws SpandrelError TAR_INVALID if the layer ends before the file does; LAYER_CORRUPT if it cannot be
   * decompressed that far
   */
  async fileContent(
    target: Target,
    digest: Digest,
    entry: StoredFile,
    reader: ContentReader,
  ): Promise<Content> {
    const layer = await this.#deps.layers.readableLayer(target, digest, reader.signal);
    const index = await this.#deps.indexes.open(layer, reader.signal);
    return this.#fileSlice(layer, index, entry, reader);
  }

  async #fileSlice(
    layer: AuthorizedLayer,
    index: LayerIndexView,
    entry: StoredFile,
    reader: ContentReader,
  ): Promise<Content> {
    const { uncompressedOffset: start, uncompressedSize: sizeBytes, sparseMap } = entry;
    const regions = sparseMap === undefined ? undefined : new SparseRegions(sparseMap);
    const end = storedEnd(entry);
    if (!(await reaches(index, end, reader.signal))) {
      throwIfFaulty(streamFault((await index.finished(reader.signal)).summary));
      throw new SpandrelError('TAR_INVALID', 'the tar ends before the data of this entry do');
    }
    const sparse = regions && { sparse: { sizeBytes, regions } };
    return this.#slice({ layer, index, start, end, ...sparse }, reader);
  }

  #slice(slice: Slice, reader: ContentReader): Content {
    const { layer, index, start, end, sparse } = slice;
    const { source, read } = this.#beginRead(layer, index, reader);
    const readStored = (range: ByteRange): ByteStream =>
      read({ start: start + range.start, end: start + range.end });
    return {
      sizeBytes: sparse?.sizeBytes ?? end - start,
      mediaType: MEDIA_TYPES.octetStream,
      etag: slice.etag ?? `${layer.digest}/${start}-${end}${sparse === undefined ? '' : '-sparse'}`,
      isImmutable: true,
      source,
      read: sparse === undefined ? readStored : (range) => readSparseFile(sparse.regions, range, readStored),
    };
  }

  /**
   * The part of a layer that can be read while its index is being built; `undefined` if the request must
   * wait.
   */
  async #early(
    layer: AuthorizedLayer,
    index: LayerIndexView,
    request: TarRequest,
  ): Promise<UnsizedContent | undefined> {
    if (request.needsEtag) return undefined;
    return request.isWhole
      ? this.#unsized(layer, index, undefined, request)
      : this.#closedRange(layer, index, request);
  }

  /** Waits until the last byte of the range is decompressed; `undefined` if the layer ends before it. */
  async #closedRange(
    layer: AuthorizedLayer,
    index: LayerIndexView,
    request: TarRequest,
  ): Promise<UnsizedContent | undefined> {
    const { range, signal } = request;
    if (range === undefined) return undefined;
    const last = { start: range.end - 1, end: range.end };
    if ((await index.readSpans(last, signal)).length === 0) return undefined;
    return this.#unsized(layer, index, range, request);
  }

  #unsized(
    layer: AuthorizedLayer,
    index: LayerIndexView,
    range: ByteRange | undefined,
    reader: ContentReader,
  ): UnsizedContent {
    const { source, read } = this.#beginRead(layer, index, reader);
    return { mediaType: MEDIA_TYPES.octetStream, range, source, read: () => read(range ?? WHOLE) };
  }

  #beginRead(
    layer: AuthorizedLayer,
    index: LayerIndexView,
    { client, signal }: ContentReader,
  ): { readonly source: () => ByteSource | undefined; readonly read: (range: ByteRange) => ByteStream } {
    let source: ByteSource | undefined;
    const reading = this.#deps.reader.beginRequest(client, signal);
    const onSource = (from: ByteSource): void => void (source ??= from);
    return {
      source: () => source,
      read: (range) => this.#deps.reader.read(layer, index, { range, reading, onSource }),
    };
  }
}

/** Whether the decompressed layer has `end` bytes. While the index is being built, it waits for them. */
async function reaches(index: LayerIndexView, end: number, signal: AbortSignal): Promise<boolean> {
  if (index.compression === 'none') return end <= index.layerBytes;
  if (end === 0) return true;
  return (await index.readSpans({ start: end - 1, end }, signal)).length > 0;
}

async function findRegularFile(index: LayerIndexView, path: RawText, signal: AbortSignal): Promise<TocEntry> {
  const entry = await index.findFile(path, signal);
  if (entry === undefined) {
    throwIfFaulty(layerFault((await index.finished(signal)).summary));
    throw new SpandrelError('FILE_UNKNOWN', 'the layer has no such file');
  }
  let file: TocEntry | undefined = entry;
  for (let links = 0; file?.type === 'hardlink' && links < MAX_HARD_LINKS; links++)
    file = await index.findLinked(file, signal);
  if (file !== undefined && isReadable(file)) return file;
  throw new SpandrelError(
    'FILE_NOT_REGULAR',
    `the path is a ${entry.type}, not a regular file of this layer`,
    {
      detail: {
        type: entry.type,
        ...(entry.linkname === '' ? {} : describeRawText('linkname', entry.linkname)),
      },
    },
  );
}

/** What is missing may lie beyond the fault. @throws SpandrelError the fault */
function throwIfFaulty(fault: NoZtocReason | undefined): void {
  if (fault !== undefined) throw new SpandrelError(fault.code, fault.message);
}
