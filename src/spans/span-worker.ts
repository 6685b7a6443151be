import { crc32 } from 'node:zlib';

import type { FileRange } from '../blobs/reads/blob-handle.ts';
import { fillFromFileSync } from '../blobs/files/read-file-range.ts';
import { type ByteRange, rangeLength } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';
import { combineCrc32 } from '../inflate/combine-crc32.ts';
import { engineNamed } from '../inflate/choose-engine.ts';
import type { EngineName } from '../inflate/engine.ts';
import { TransferredResult } from '../threads/transferred-result.ts';
import { findMountProblem } from '../ztoc/find-mount-problem.ts';
import { decodeZtoc } from '../ztoc/decode-ztoc.ts';
import type { LayerLimits } from '../build/build-layer.ts';
import type { ReadSpan } from '../ztoc/span.ts';
import { readWindow, type StoredWindow } from '../index/stored-window.ts';
import { type ZstdRead, ZstdReaders } from './zstd-readers.ts';

// Entry of the worker threads that serve reads: each export is a task of a `WorkerPool`.

export interface ValidateZtocInput {
  readonly bytes: Uint8Array;
  /** Size of the layer's blob according to the image. */
  readonly layerBytes: number;
  readonly limits: LayerLimits;
}

/**
 * Task: checks a zTOC as far as possible without its layer.
 * @throws SpandrelError INDEX_MALFORMED, INDEX_UNMOUNTABLE
 */
export function validateZtoc({ bytes, layerBytes, limits }: ValidateZtocInput): void {
  const ztoc = decodeZtoc(bytes, limits);
  if (ztoc.compressedArchiveSize !== layerBytes)
    throw new SpandrelError('INDEX_MALFORMED', 'the zTOC belongs to a layer of another size');
  const problem = findMountProblem(ztoc);
  if (problem !== undefined) throw new SpandrelError('INDEX_UNMOUNTABLE', problem);
}

/** Consecutive spans. */
type SpanRun = readonly Pick<ReadSpan, 'uncompressed' | 'crc32'>[];

export interface InflateSpansInput {
  readonly engine: EngineName;
  readonly spans: SpanRun;
  /** From the first byte of the first span to the last byte of the last span, in memory or in a file. */
  readonly compressed: Uint8Array | FileRange;
  readonly bits: number;
  /** The window of the first span. */
  readonly window: StoredWindow;
}

/** Largest read buffer that is kept between tasks. */
const MAX_KEPT_BYTES = 4 * 2 ** 20;
let kept: Buffer = Buffer.alloc(0);

/**
 * Task: decodes and verifies spans of a gzip layer.
 * @throws SpandrelError SPAN_CORRUPT, INDEX_MALFORMED, STORE_FAILED if the file cannot be read
 */
export function inflateSpans(input: InflateSpansInput): TransferredResult<Uint8Array<ArrayBuffer>[]> {
  const { engine, spans, bits } = input;
  const window = readWindow(input.window);
  const compressed = input.compressed instanceof Uint8Array ? input.compressed : readPart(input.compressed);
  const uncompressedLength = rangeLength(outputOf(spans));
  let sum = 0;
  for (const { uncompressed, crc32 } of spans) sum = combineCrc32(sum, crc32, rangeLength(uncompressed));
  return splitSpans(
    engineNamed(engine).inflateSpan({ compressed, bits, window, uncompressedLength, crc32: sum }),
    spans,
  );
}

/** Valid until the next call. */
function readPart({ fd, range }: FileRange): Buffer {
  const bytes = rangeLength(range);
  if (bytes > kept.byteLength)
    kept = Buffer.allocUnsafeSlow(Math.max(bytes, Math.min(2 * bytes, MAX_KEPT_BYTES)));
  const part = kept.subarray(0, bytes);
  if (kept.byteLength > MAX_KEPT_BYTES) kept = Buffer.alloc(0);
  fillFromFileSync(fd, part, range.start);
  return part;
}

export interface ReadZstdSpansInput extends Omit<ZstdRead, 'frame' | 'uncompressed' | 'compressedEnd'> {
  /** Consecutive ones, whose compressed bytes the file has. */
  readonly spans: readonly ReadSpan[];
}

/** The bytes of each span, and how many bytes were decoded to reach them. */
export interface ZstdSpans {
  readonly parts: readonly Uint8Array<ArrayBuffer>[];
  readonly skippedBytes: number;
}

const zstdReaders = new ZstdReaders();

/**
 * Task: decodes and verifies spans of a zstd layer. Decodes the frame of the first span from its start, or
 * from where the last read of this thread ended.
 * @throws SpandrelError as {@link ZstdReaders.read}
 */
export async function readZstdSpans(input: ReadZstdSpansInput): Promise<TransferredResult<ZstdSpans>> {
  const { spans, ...file } = input;
  const uncompressed = outputOf(spans);
  const frame = spans[0]?.frame ?? { compressedStart: 0, uncompressedStart: 0 };
  const compressedEnd = spans.at(-1)?.compressed.end ?? 0;
  const read = { ...file, compressedEnd, frame, uncompressed };
  const { bytes, skippedBytes } = await zstdReaders.read(read);
  for (const { uncompressed: span, crc32: expected } of spans) {
    const part = bytes.subarray(span.start - uncompressed.start, span.end - uncompressed.start);
    if (crc32(part) !== expected)
      throw new SpandrelError('SPAN_CORRUPT', 'a decoded span does not match its checksum');
  }
  const { value: parts, transfer } = splitSpans(bytes, spans);
  return new TransferredResult({ parts, skippedBytes }, transfer);
}

function outputOf(spans: SpanRun): ByteRange {
  return { start: spans[0]?.uncompressed.start ?? 0, end: spans.at(-1)?.uncompressed.end ?? 0 };
}

/** Copies each span into a buffer of its own, so that a cache can drop them one by one. */
function splitSpans(
  bytes: Uint8Array<ArrayBuffer>,
  spans: SpanRun,
): TransferredResult<Uint8Array<ArrayBuffer>[]> {
  const { start } = outputOf(spans);
  const parts = spans.map(({ uncompressed }) =>
    spans.length === 1 ? bytes : bytes.slice(uncompressed.start - start, uncompressed.end - start),
  );
  return new TransferredResult(
    parts,
    parts.map(({ buffer }) => buffer),
  );
}
