import { createHash } from 'node:crypto';

import { type Digest, digestAlgorithm, digestOf, finishDigest } from '../core/digest.ts';
import { type ErrorCode, isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { LayerCompression } from '../core/media-types.ts';
import type { Engine } from '../inflate/engine.ts';
import { buildZtoc } from './build-ztoc.ts';
import { GzipSpanCutter } from './gzip-span-cutter.ts';
import type { IndexWriter } from '../index/index-writer.ts';
import type { LayerSummary, NoZtocReason } from '../index/layer-summary.ts';
import { hashHere, type OutputHash } from './output-hash.ts';
import { findEmptySpan, OverlapCheck } from '../ztoc/find-mount-problem.ts';
import { PlainSpanCutter } from './plain-span-cutter.ts';
import type { ReadSpan, Span } from '../ztoc/span.ts';
import type { SpanCutterOptions } from '../index/span-sink.ts';
import { TarReader } from '../tar/tar-reader.ts';
import { TocRecords } from '../index/toc-records.ts';
import type { TocEntry } from '../tar/toc-entry.ts';
import { cutZstdSpans } from './cut-zstd-spans.ts';

export interface LayerLimits {
  readonly maxUncompressedBytes: number;
  readonly maxTocEntries: number;
  /**
   * Most bytes of the table of contents: names, links, extended attributes. A zTOC, with its checkpoints, may
   * take twice as much.
   */
  readonly maxTocBytes?: number | undefined;
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
  /** Hashes the decompressed bytes for the diffID; stays the caller's. Default: the calling thread hashes. */
  readonly outputHash?: OutputHash;
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
  await using input = new CheckedInput(compressed, options.layerDigest);
  try {
    return await buildFrom(input, options);
  } catch (error) {
    // A fault of other bytes is no fault of the layer.
    if (isSpandrelError(error) && BUILD_FAULTS.includes(error.code)) await input.finish();
    throw error;
  }
}

const BUILD_FAULTS: readonly ErrorCode[] = ['LAYER_CORRUPT', 'LAYER_UNSUPPORTED', 'LAYER_TOO_LARGE'];

async function buildFrom(input: CheckedInput, options: LayerBuilderOptions): Promise<LayerBuild> {
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
  const found = await tar.finish(fault === undefined);
  const spanCount = writer.spans.length;
  const layer = { ...found, layerBytes, spanCount, maxSkippedBytes: mostSkipped(writer.spans) };
  if (fault !== undefined) return { ...layer, mountable: false, reason: fault };
  const isFaulty = tar.problem?.code === 'TAR_INVALID';
  const problem = options.compression === 'zstd' && !isFaulty ? NO_ZSTD : (tar.problem ?? headerProblem);
  if (problem !== undefined) return { ...layer, mountable: false, reason: problem };
  return { ...layer, ...finishZtoc(layer, options, tar) };
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
    const problem = await cutWholeStream(input, options, cut);
    return problem === undefined ? {} : { problem: { code: 'INDEX_UNMOUNTABLE', message: problem } };
  } catch (error) {
    const isReadable = options.writer.spans.uncompressedEnd > 0;
    if (!isReadable || !isSpandrelError(error, 'LAYER_CORRUPT')) throw error;
    return { fault: { code: error.code, message: error.message } };
  }
}

async function cutWholeStream(
  input: AsyncIterable<Uint8Array>,
  { compression, engine, limits, reread }: LayerBuilderOptions,
  cut: SpanCutterOptions,
): Promise<string | undefined> {
  if (compression === 'zstd') {
    await cutZstdSpans(input, cut, { maxWindowBytes: limits.maxZstdWindowBytes, reread });
    return undefined;
  }
  const cutter = compression === 'gzip' ? new GzipSpanCutter(engine, cut) : new PlainSpanCutter(cut);
  for await (const chunk of input) cutter.write(chunk);
  cutter.finish();
  return cutter instanceof GzipSpanCutter ? cutter.problem : undefined;
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
    return { ztoc, mountable, reason: { code: 'TAR_UNSUPPORTED', message: 'the tar has a sparse file' } };
  } catch (error) {
    if (!isSpandrelError(error, 'LAYER_TOO_LARGE')) throw error;
    return { mountable: false, reason: { code: error.code, message: error.message } };
  }
}

/** Counts the chunks that pass through, and compares them with their digest if there is one. */
class CheckedInput implements AsyncIterable<Uint8Array>, AsyncDisposable {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #digest: Digest | undefined;
  readonly #hash: ReturnType<typeof createHash> | undefined;
  #bytes = 0;

  constructor(chunks: AsyncIterable<Uint8Array>, digest: Digest | undefined) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#digest = digest;
    this.#hash = digest && createHash(digestAlgorithm(digest));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return;
      this.#bytes += value.length;
      this.#hash?.update(value);
      yield value;
    }
  }

  /** Reads what the consumer left. @returns the size of the layer @throws SpandrelError BLOB_CORRUPT */
  async finish(): Promise<number> {
    for await (const _ of this);
    if (this.#hash === undefined || this.#digest === undefined) return this.#bytes;
    const digest = finishDigest(this.#hash, digestAlgorithm(this.#digest));
    if (digest === this.#digest) return this.#bytes;
    throw new SpandrelError('BLOB_CORRUPT', `the blob ${this.#digest} has the digest ${digest}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks.return?.();
  }
}

/** The decompressed side: diffID, files, and problems of the tar. */
class DecompressedTar {
  readonly #options: LayerBuilderOptions;
  readonly #hash: OutputHash;
  readonly #entries: TocRecords;
  readonly #overlap = new OverlapCheck();
  readonly #reader = new TarReader((entry) => this.#takeEntry(entry));
  #bytes = 0;
  #hasSparseFile = false;
  #sparseBytes = 0;

  constructor(options: LayerBuilderOptions) {
    this.#options = options;
    this.#hash = options.outputHash ?? hashHere();
    this.#entries = new TocRecords(options.limits.maxTocBytes);
  }

  get problem(): NoZtocReason | undefined {
    const { problem } = this.#reader;
    return problem && { code: problem.code, message: problem.message };
  }

  get overlap(): string | undefined {
    return this.#overlap.problem;
  }

  get hasSparseFile(): boolean {
    return this.#hasSparseFile;
  }

  write(bytes: Uint8Array): void {
    const { maxUncompressedBytes } = this.#options.limits;
    this.#bytes += bytes.length;
    if (this.#bytes > maxUncompressedBytes) {
      throw new SpandrelError(
        'LAYER_TOO_LARGE',
        `the layer inflates to more than ${maxUncompressedBytes} bytes`,
      );
    }
    this.#hash.update(bytes);
    this.#reader.write(bytes);
  }

  /** @param isWhole true if the stream has been decompressed to its end */
  async finish(
    isWhole: boolean,
  ): Promise<Pick<LayerBuild, 'diffId' | 'uncompressedBytes' | 'archiveBytes' | 'entries'>> {
    this.#reader.finish();
    return {
      ...(isWhole ? { diffId: await this.#hash.digest() } : {}),
      uncompressedBytes: this.#bytes,
      archiveBytes: this.#reader.archiveBytes,
      entries: this.#entries,
    };
  }

  /** Counts its zeros as if they were in the layer, since clients can read them. */
  #addSparseFile({ uncompressedSize }: TocEntry): void {
    this.#hasSparseFile = true;
    this.#sparseBytes += uncompressedSize;
    const { maxUncompressedBytes } = this.#options.limits;
    if (this.#sparseBytes > maxUncompressedBytes)
      throw new SpandrelError(
        'LAYER_TOO_LARGE',
        `the sparse files of the layer have more than ${maxUncompressedBytes} bytes`,
      );
  }

  #takeEntry(entry: TocEntry): void {
    const { maxTocEntries } = this.#options.limits;
    if (this.#entries.length === maxTocEntries) {
      throw new SpandrelError('LAYER_TOO_LARGE', `the layer has more than ${maxTocEntries} files`);
    }
    this.#overlap.add(entry);
    if (entry.type === 'unknown') this.#hasSparseFile = true;
    if (entry.sparseMap !== undefined) this.#addSparseFile(entry);
    this.#entries.add(entry);
    this.#options.onEntry?.(entry, this.#entries.length - 1, this.#entries);
  }
}
