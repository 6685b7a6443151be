import { CheckedBytes } from '../blobs/verification/checked-bytes.ts';
import { type Digest, digestOf } from '../core/digest.ts';
import { type ErrorCode, isSpandrelError } from '../core/errors.ts';
import type { LayerCompression } from '../core/media-types.ts';
import type { Engine } from '../inflate/engine.ts';
import { type BuiltTarZtoc, buildTarZtoc, type ReadTar } from './tar/build-tar-ztoc.ts';
import { buildZtoc } from './build-ztoc.ts';
import { cutStream } from './cut-stream.ts';
import { DecompressedTar, SPARSE_FILE, type TarLimits } from './tar/decompressed-tar.ts';
import type { IndexWriter } from '../index/index-writer.ts';
import type { LayerSummary, NoZtocReason } from '../index/layer-summary.ts';
import type { OutputDigests } from './output/output-digests.ts';
import type { OutputHash } from './output/output-hash.ts';
import { findEmptySpan } from '../ztoc/find-mount-problem.ts';
import type { ReadSpan, Span } from '../ztoc/span.ts';
import type { SpanCutterOptions } from '../index/span-sink.ts';
import { chooseTarSpanBytes, type TarSpanBytes } from './tar/tar-span-bytes.ts';
import type { TocRecords } from '../index/toc-records.ts';
import type { TocEntry } from '../tar/toc-entry.ts';

export interface LayerLimits extends TarLimits {
  /** Default 128 MiB. */
  readonly maxZstdWindowBytes?: number | undefined;
}

export interface LayerBuilderOptions {
  readonly compression: LayerCompression;
  readonly spanBytes: number;
  readonly readSpanBytes?: number;
  readonly limits: LayerLimits;
  /** Inflates gzip layers. */
  readonly engine: Engine;
  /** Receives windows and spans during the build. */
  readonly writer: IndexWriter;
  /** Hashes the decompressed bytes; stays the caller's. Default: the calling thread hashes. */
  readonly outputHash?: OutputHash;
  /** Also make a zTOC over the tar with spans of this size, if `outputHash` hashes such spans. */
  readonly tarSpanBytes?: TarSpanBytes | undefined;
  /** Of the compressed bytes, which are compared with it. Not given: they are not hashed. */
  readonly layerDigest?: Digest | undefined;
  readonly onSpan?: (span: Span) => void;
  /** Called with each entry and its number, after it was added to `entries`. */
  readonly onEntry?: (entry: TocEntry, index: number, entries: TocRecords) => void;
  /** zstd: reads the layer again from this offset. Without it, a few bytes before a fault may be lost. */
  readonly reread?: (compressedStart: number) => AsyncIterable<Uint8Array>;
}

/** Result of one pass over a layer. */
export interface LayerBuild {
  readonly layerBytes: number;
  /** Absent if the stream cannot be decompressed to its end. */
  readonly diffId?: Digest;
  /** Bytes that the stream decompresses to, up to its fault if it has one. */
  readonly uncompressedBytes: number;
  readonly archiveBytes: number;
  readonly spanCount: number;
  readonly maxSkippedBytes: LayerSummary['maxSkippedBytes'];
  readonly entries: TocRecords;
  /** The zTOC that `soci` creates for this layer; absent if `soci` fails. */
  readonly ztoc?: { readonly bytes: Uint8Array<ArrayBuffer>; readonly digest: Digest };
  /** Present if it was wanted; absent nevertheless if other spans than those of such a tar were hashed. */
  readonly tar?: BuiltTarZtoc;
  /** True if the snapshotter's own rules allow mounting with the zTOC. */
  readonly mountable: boolean;
  /** Why the zTOC must not be published, or why there is none. */
  readonly reason?: NoZtocReason;
}

/**
 * Reads a layer once: decompresses, finds spans and files, hashes. A fault does not stop it: bytes of a
 * malformed tar are readable, and so are bytes before a fault of the stream. Holds the table of contents in
 * memory, and at the end the zTOC.
 * @param compressed the layer from its first byte; a chunk may be reused once the next one is requested
 * @throws SpandrelError BLOB_CORRUPT if the bytes have another digest, whatever else is wrong with them;
 * LAYER_CORRUPT if the stream yields nothing before its fault, LAYER_UNSUPPORTED (zstd), LAYER_TOO_LARGE;
 * errors of `compressed` and of the writer
 */
export async function buildLayer(
  compressed: AsyncIterable<Uint8Array>,
  options: LayerBuilderOptions,
): Promise<LayerBuild> {
  await using input = new CheckedBytes(compressed, options.layerDigest);
  try {
    return await buildFrom(input, options);
  } catch (error) {
    // A fault of other bytes is no fault of the layer.
    if (isSpandrelError(error) && BUILD_FAULTS.includes(error.code)) await input.finish();
    throw error;
  }
}

const BUILD_FAULTS: readonly ErrorCode[] = ['LAYER_CORRUPT', 'LAYER_UNSUPPORTED', 'LAYER_TOO_LARGE'];

async function buildFrom(input: CheckedBytes, options: LayerBuilderOptions): Promise<LayerBuild> {
  const tar = new DecompressedTar(options);
  const { writer } = options;
  const sink = {
    addWindow: (window: Uint8Array) => writer.addWindow(window),
    addSpan: (span: Span) => {
      writer.addSpan(span);
      options.onSpan?.(span);
    },
    addReadSpan: (span: ReadSpan, window: Uint8Array | undefined) => writer.addReadSpan(span, window),
  };
  const { spanBytes, readSpanBytes } = options;
  const cut = { spanBytes, readSpanBytes, sink, onOutput: (bytes: Uint8Array) => tar.write(bytes) };
  const { fault, problem: headerProblem } = await cutSpans(input, options, cut);
  const layerBytes = await input.finish();
  const { digests, ...found } = await tar.finish(fault === undefined);
  const spanCount = writer.spans.length;
  const layer = {
    ...found,
    ...(digests === undefined ? {} : { diffId: digests.digest }),
    layerBytes,
    spanCount,
    maxSkippedBytes: mostSkipped(writer.spans),
    ...finishTar({ ...found, digests, problem: tar.mountProblem }, options),
  };
  if (fault !== undefined) return { ...layer, mountable: false, reason: fault };
  const isFaulty = tar.problem?.code === 'TAR_INVALID';
  const problem = options.compression === 'zstd' && !isFaulty ? NO_ZSTD : (tar.problem ?? headerProblem);
  if (problem !== undefined) return { ...layer, mountable: false, reason: problem };
  return { ...layer, ...finishZtoc(layer, options, tar) };
}

/** The zTOC over the tar, if it is wanted and its spans were hashed. */
function finishTar(
  { digests, ...tar }: Omit<ReadTar, 'digests'> & { readonly digests: OutputDigests | undefined },
  { tarSpanBytes, limits }: LayerBuilderOptions,
): Pick<LayerBuild, 'tar'> {
  if (tarSpanBytes === undefined || digests === undefined) return {};
  const spanBytes = chooseTarSpanBytes(tarSpanBytes, tar.uncompressedBytes);
  if (!digests.spans.has(spanBytes)) return {};
  return { tar: buildTarZtoc({ ...tar, digests }, spanBytes, limits) };
}

function mostSkipped(spans: Iterable<Span>): number {
  let most = 0;
  for (const { uncompressed, frame } of spans)
    if (frame !== undefined) most = Math.max(most, uncompressed.start - frame.uncompressedStart);
  return most;
}

const NO_ZSTD: NoZtocReason = { code: 'LAYER_UNSUPPORTED', message: 'SOCI has no zTOCs for zstd layers' };

/** `fault`: the stream ends there. `problem`: the stream is valid, but the snapshotter cannot use it. */
async function cutSpans(
  input: AsyncIterable<Uint8Array>,
  options: LayerBuilderOptions,
  cut: SpanCutterOptions,
): Promise<{ fault?: NoZtocReason; problem?: NoZtocReason }> {
  try {
    const { maxZstdWindowBytes } = options.limits;
    const { compression, engine, reread } = options;
    const problem = await cutStream(input, { compression, engine, maxZstdWindowBytes, reread }, cut);
    return problem === undefined ? {} : { problem: { code: 'INDEX_UNMOUNTABLE', message: problem } };
  } catch (error) {
    const isReadable = options.writer.spans.uncompressedEnd > 0;
    if (!isReadable || !isSpandrelError(error, 'LAYER_CORRUPT')) throw error;
    return { fault: { code: error.code, message: error.message } };
  }
}

function finishZtoc(
  layer: Pick<LayerBuild, 'layerBytes' | 'archiveBytes' | 'entries'>,
  options: LayerBuilderOptions,
  tar: DecompressedTar,
): Pick<LayerBuild, 'ztoc' | 'mountable' | 'reason'> {
  const { compression, spanBytes, writer, limits } = options;
  if (compression === 'zstd') return { mountable: false, reason: NO_ZSTD };
  try {
    const bytes = buildZtoc({
      ...layer,
      compression,
      spanBytes,
      writer,
      maxBytes: limits.maxTocBytes && 2 * limits.maxTocBytes,
    });
    const ztoc = { bytes, digest: digestOf(bytes) };
    const problem = findEmptySpan(writer.spans) ?? tar.overlap;
    const mountable = problem === undefined;
    if (!mountable) return { ztoc, mountable, reason: { code: 'INDEX_UNMOUNTABLE', message: problem } };
    if (!tar.hasSparseFile) return { ztoc, mountable };
    return { ztoc, mountable, reason: SPARSE_FILE };
  } catch (error) {
    if (!isSpandrelError(error, 'LAYER_TOO_LARGE')) throw error;
    return { mountable: false, reason: { code: error.code, message: error.message } };
  }
}
