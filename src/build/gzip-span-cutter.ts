import { isSpandrelError } from '../core/errors.ts';
import { combineCrc32 } from '../inflate/combine-crc32.ts';
import {
  type Checkpoint,
  compressedStartOf,
  type Engine,
  type GzipInflater,
  WINDOW_BYTES,
} from '../inflate/engine.ts';
import { CompressedHash } from './compressed-hash.ts';
import { isReadableByGo } from './is-readable-by-go.ts';
import { ReadSpanCutter } from './read-span-cutter.ts';
import type { SpanCutterOptions } from '../index/span-sink.ts';

/** A longer header has a field that Go refuses. */
const MAX_HEADER_BYTES = 128 * 1024;
/**
 * Most checkpoints before any output. A block without output takes ten bits and its checkpoint 32 KiB, so
 * they must be bounded. The snapshotter cannot mount with two of them anyway.
 */
const MAX_EMPTY_SPANS = 1000;

const GO_HEADER = 'the gzip header has a name or comment of 512 bytes or more';
const PADDING = 'zeros follow the gzip stream, which soci refuses';
const EMPTY_SPANS = `the gzip stream starts with more than ${MAX_EMPTY_SPANS} empty blocks`;

/**
 * Cuts a gzip layer where `soci` does: at the first block boundary that is more than the span size behind the
 * last checkpoint (soci-snapshotter `ztoc/compression/gzip_zinfo.c`). Cuts read spans in the same pass if
 * wanted.
 */
export class GzipSpanCutter {
  readonly #options: SpanCutterOptions;
  readonly #inflater: GzipInflater;
  readonly #readSpans: ReadSpanCutter | undefined;
  readonly #hash = new CompressedHash();
  readonly #window = new Uint8Array(WINDOW_BYTES);
  /** The gzip header, until the first checkpoint. */
  #header: Buffer | undefined = Buffer.alloc(0);
  #problem: string | undefined;
  #spans = 0;
  #checkpoint: Checkpoint = { compressedOffset: 0, bits: 0, uncompressedOffset: 0 };
  #uncompressedOffset = 0;
  #crc32 = 0;

  constructor(engine: Engine, options: SpanCutterOptions) {
    this.#options = options;
    const { readSpanBytes, sink } = options;
    if (readSpanBytes !== undefined) this.#readSpans = new ReadSpanCutter(readSpanBytes, sink);
    this.#inflater = engine.createGzipInflater({
      onOutput: (bytes, crc32) => this.#takeOutput(bytes, crc32),
      onBoundary: (checkpoint, copyWindow) => {
        this.#readSpans?.considerBoundary(checkpoint, this.#inflater);
        this.#considerBoundary(checkpoint, copyWindow);
      },
    });
  }

  /** Why the snapshotter cannot use the stream, although it is valid; such a layer gets no zTOC. */
  get problem(): string | undefined {
    return this.#problem;
  }

  /** @throws SpandrelError LAYER_CORRUPT; output before the fault is in spans */
  write(compressed: Uint8Array): void {
    this.#hash.take(compressed);
    if (this.#header !== undefined && this.#header.length < MAX_HEADER_BYTES) {
      this.#header = Buffer.concat([this.#header, compressed.subarray(0, MAX_HEADER_BYTES)]);
    }
    this.#inflate(() => this.#inflater.write(compressed));
    this.#hash.giveBack();
  }

  /** @throws SpandrelError as {@link write} */
  finish(): void {
    this.#inflate(() => this.#inflater.finish());
    if (this.#inflater.hasPadding) this.#problem ??= PADDING;
    this.#endSpans(this.#hash.length);
  }

  #inflate(step: () => void): void {
    try {
      step();
    } catch (error) {
      if (isSpandrelError(error, 'LAYER_CORRUPT')) this.#endSpans(this.#inflater.compressedOffset);
      throw error;
    }
  }

  #endSpans(compressedEnd: number): void {
    this.#readSpans?.endSpan(compressedEnd, this.#inflater);
    if (this.#header === undefined) this.#endSpan(compressedEnd);
  }

  #takeOutput(bytes: Uint8Array, crc32: number): void {
    this.#uncompressedOffset += bytes.length;
    this.#crc32 = combineCrc32(this.#crc32, crc32, bytes.length);
    this.#readSpans?.takeOutput(bytes, crc32);
    this.#options.onOutput(bytes);
  }

  #considerBoundary(checkpoint: Checkpoint, copyWindow: (target: Uint8Array) => void): void {
    const { compressedOffset, uncompressedOffset } = checkpoint;
    const distance = uncompressedOffset - this.#checkpoint.uncompressedOffset;
    // `soci` recognizes the first checkpoint by its offset 0, so a stream that starts with empty blocks has
    // several.
    if (uncompressedOffset > 0 && distance <= this.#options.spanBytes) return;
    if (this.#header !== undefined) {
      if (!isReadableByGo(this.#header.subarray(0, compressedOffset))) this.#problem = GO_HEADER;
      this.#header = undefined;
    } else if (uncompressedOffset === 0 && this.#spans === MAX_EMPTY_SPANS) {
      this.#problem ??= EMPTY_SPANS;
      return;
    } else {
      this.#endSpan(compressedOffset);
    }
    this.#checkpoint = checkpoint;
    this.#hash.begin(compressedStartOf(checkpoint));
    this.#crc32 = 0;
    if (uncompressedOffset === 0) return;
    copyWindow(this.#window);
    this.#options.sink.addWindow(this.#window);
  }

  #endSpan(compressedEnd: number): void {
    const { bits, uncompressedOffset } = this.#checkpoint;
    this.#options.sink.addSpan({
      id: this.#spans++,
      compressed: { start: compressedStartOf(this.#checkpoint), end: compressedEnd },
      uncompressed: { start: uncompressedOffset, end: this.#uncompressedOffset },
      bits,
      digest: this.#hash.digest(compressedEnd),
      crc32: this.#crc32,
    });
  }
}
