import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import { type ErrorCode, SpandrelError } from '../../core/errors.ts';
import { mapInTurns } from '../../core/work/in-own-turn.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { Layers } from '../../images/lazy/layers.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { LayerReader } from '../../spans/layer-reader.ts';
import { readSparseFile } from '../../spans/read-sparse-file.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';
import type { LayerIndexView } from '../../index/layer-index-view.ts';
import { layerFault, type NoZtocReason, streamFault } from '../../index/layer-summary.ts';
import { describeRawText, EMPTY_RAW_TEXT, type RawText } from '../../tar/raw-text.ts';
import { SparseRegions } from '../../tar/sparse-regions.ts';
import type { EntryType, TocEntry } from '../../tar/toc-entry.ts';
import {
  type RegistryResponse,
  type ByteStream,
  IMMUTABLE,
  jsonResponse,
} from '../responses/registry-response.ts';
import { contentResponse, type Content } from '../responses/content-response.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { growingTarResponse, tarRangeResponse } from '../responses/growing-tar-response.ts';
import { describeNextPage, parsePageQuery } from '../requests/page-query.ts';
import { readRawParameter } from '../requests/query.ts';

export interface SpanDeps {
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly reader: LayerReader;
}

/** A link may lead to another one. */
const MAX_HARD_LINKS = 40;
/** Regular files, however they are stored. */
const READABLE_TYPES: readonly EntryType[] = ['reg', 'sparse', 'gnu-sparse', 'contiguous'];

/** State of a layer's index. Starts nothing. */
export async function handleLayer(
  deps: SpanDeps,
  context: RequestContext,
  digest: Digest,
): Promise<RegistryResponse> {
  return jsonResponse(await deps.layers.describe(context.target, digest, context.signal));
}

/** All spans of a layer; waits for the index. */
export async function handleSpans(
  deps: SpanDeps,
  context: RequestContext,
  digest: Digest,
): Promise<RegistryResponse> {
  const index = await deps.indexes.ensure(
    await deps.layers.authorizedLayer(context.target, digest, context.signal),
    context.signal,
  );
  const spans = Array.from(index.spans(), (span) => ({
    id: span.id,
    compressed: span.compressed,
    uncompressed: span.uncompressed,
    digest: span.digest,
    crc32: span.crc32,
  }));
  return jsonResponse({ spans, ...describeFault(streamFault(index.summary)) });
}

/** The decompressed bytes of one span. */
export async function handleSpan(
  deps: SpanDeps,
  context: RequestContext,
  digest: Digest,
  spanId: number,
): Promise<RegistryResponse> {
  const layer = await deps.layers.authorizedLayer(context.target, digest, context.signal);
  const index = await deps.indexes.open(layer, context.signal);
  const span = await index.span(spanId, context.signal);
  if (span === undefined) {
    throwIfFaulty(streamFault((await index.finished(context.signal)).summary));
    throw new SpandrelError('SPAN_UNKNOWN', `the layer has no span ${spanId}`);
  }
  return answerSlice(deps, context, {
    layer,
    index,
    start: span.uncompressed.start,
    end: span.uncompressed.end,
  });
}

/**
 * The decompressed layer. While its index is being built the total size is unknown, and parts of it are there already. Of a stream at fault
 * it stays unknown, and only ranges ahead of the fault can be had.
 */
export async function handleTar(
  deps: SpanDeps,
  context: RequestContext,
  digest: Digest,
): Promise<RegistryResponse> {
  const layer = await deps.layers.authorizedLayer(context.target, digest, context.signal);
  let index = await deps.indexes.open(layer, context.signal);
  if (index.unverifiedBuild !== undefined) {
    const growing = await growingTarResponse(deps.reader, context, layer, index);
    if (growing !== undefined) return growing;
    await deps.indexes.ensure(layer, context.signal);
    index = await deps.indexes.open(layer, context.signal);
  }
  const { summary } = await index.finished(context.signal);
  const { diffId, uncompressedBytes: end } = summary;
  const fault = streamFault(summary);
  if (fault === undefined) return answerSlice(deps, context, { layer, index, start: 0, end, etag: diffId });
  const ahead = await tarRangeResponse(deps.reader, context, layer, index);
  if (ahead !== undefined) return ahead;
  throw new SpandrelError(fault.code, fault.message, { detail: { readableSize: end } });
}

/** The files of a layer in the order of their names, one page; waits for the index. Of a layer at fault, those ahead of the fault. */
export async function handleFiles(
  deps: SpanDeps,
  context: RequestContext,
  digest: Digest,
): Promise<RegistryResponse> {
  const index = await deps.indexes.ensure(
    await deps.layers.authorizedLayer(context.target, digest, context.signal),
    context.signal,
  );
  const page = parsePageQuery(context);
  const prefix = readRawParameter(context.url, 'prefix') ?? EMPTY_RAW_TEXT;
  const { files, next } = index.listFiles({ ...page, prefix });
  const { headers, ...rest } = describeNextPage(context, page, next);
  const fault = layerFault(index.summary);
  const describe = (entry: TocEntry): object =>
    storedEnd(entry) <= index.summary.uncompressedBytes
      ? describeFile(entry)
      : { ...describeFile(entry), ...describeFault(fault) };
  return jsonResponse(
    { files: await mapInTurns(files, describe), ...describeFault(fault), ...rest },
    { headers },
  );
}

/**
 * A file of a layer. Hard links are followed inside the layer; what else is no regular file has no bytes to send. While the index is
 * being built, a later entry of the same name may still come: caches must ask again.
 */
export async function handleFile(
  deps: SpanDeps,
  context: RequestContext,
  digest: Digest,
  path: RawText,
): Promise<RegistryResponse> {
  const layer = await deps.layers.authorizedLayer(context.target, digest, context.signal);
  const index = await deps.indexes.open(layer, context.signal);
  const isFinal = index.unverifiedBuild === undefined;
  const entry = await findRegularFile(index, path, context.signal);
  const answer = await answerFile(deps, context, layer, index, entry);
  return isFinal ? answer : { ...answer, headers: { ...answer.headers, 'cache-control': 'no-cache' } };
}

/** Which bytes of a layer a file has. */
type StoredFile = Pick<TocEntry, 'type' | 'uncompressedOffset' | 'uncompressedSize' | 'sparseMap'>;

/**
 * The bytes of a regular file of an open layer.
 * @throws SpandrelError TAR_INVALID if the layer ends before the file does, LAYER_CORRUPT if it cannot be decompressed that far
 */
export async function answerFile(
  deps: SpanDeps,
  context: RequestContext,
  layer: AuthorizedLayer,
  index: LayerIndexView,
  entry: StoredFile,
): Promise<RegistryResponse> {
  const { uncompressedOffset: start, uncompressedSize: sizeBytes, sparseMap } = entry;
  const regions = sparseMap === undefined ? undefined : new SparseRegions(sparseMap);
  const end = storedEnd(entry);
  if (!(await reaches(index, end, context.signal))) {
    throwIfFaulty(streamFault((await index.finished(context.signal)).summary));
    throw new SpandrelError('TAR_INVALID', 'the tar ends before the data of this entry do');
  }
  if (regions === undefined) return answerSlice(deps, context, { layer, index, start, end });
  return answerSlice(deps, context, { layer, index, start, end, sparse: { sizeBytes, regions } });
}

/** Where the data of an entry end in the decompressed layer. */
function storedEnd({ type, uncompressedOffset, uncompressedSize, sparseMap }: StoredFile): number {
  if (!READABLE_TYPES.includes(type)) return uncompressedOffset;
  const bytes = sparseMap === undefined ? uncompressedSize : new SparseRegions(sparseMap).storedBytes;
  return uncompressedOffset + bytes;
}

/** Whether the decompressed layer has so many bytes. Of an index that is being built it is known when it has come so far. */
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
  if (file !== undefined && READABLE_TYPES.includes(file.type)) return file;
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

interface Slice {
  readonly layer: AuthorizedLayer;
  readonly index: LayerIndexView;
  /** Offsets in the decompressed layer, `[start, end)`. */
  readonly start: number;
  readonly end: number;
  readonly etag?: string | undefined;
  /** The slice is what is stored of a sparse file. */
  readonly sparse?: { readonly sizeBytes: number; readonly regions: SparseRegions };
}

/** A part of a decompressed layer as content of its own. */
function answerSlice(deps: SpanDeps, context: RequestContext, slice: Slice): RegistryResponse {
  const { layer, index, start, end, sparse } = slice;
  let source: ByteSource | undefined;
  const reading = deps.reader.beginRequest(context.client, context.signal);
  const read = (range: ByteRange): ByteStream =>
    deps.reader.read(layer, index, {
      range: { start: start + range.start, end: start + range.end },
      reading,
      onSource: (from) => (source ??= from),
    });
  const content: Content = {
    sizeBytes: sparse?.sizeBytes ?? end - start,
    contentType: MEDIA_TYPES.octetStream,
    etag: slice.etag ?? `${layer.digest}/${start}-${end}${sparse === undefined ? '' : '-sparse'}`,
    headers: IMMUTABLE,
    source: () => source,
    read: sparse === undefined ? read : (range) => readSparseFile(sparse.regions, range, read),
  };
  return contentResponse(content, context);
}

/** What is not there may lie behind the fault. @throws SpandrelError the fault */
function throwIfFaulty(fault: NoZtocReason | undefined): void {
  if (fault !== undefined) throw new SpandrelError(fault.code, fault.message);
}

/** Says of a list that there may be more, of an entry that not all of it can be had. */
function describeFault(fault: NoZtocReason | undefined): { readonly incomplete?: ErrorCode } {
  return fault === undefined ? {} : { incomplete: fault.code };
}

function describeFile(entry: TocEntry): object {
  return {
    ...describeRawText('name', entry.name),
    type: entry.type,
    size: entry.uncompressedSize,
    mode: entry.mode,
    uid: entry.uid,
    gid: entry.gid,
    mtime: entry.modTime,
    ...(entry.linkname === '' ? {} : describeRawText('linkname', entry.linkname)),
    offset: entry.uncompressedOffset,
  };
}
