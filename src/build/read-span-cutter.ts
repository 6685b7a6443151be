import { combineCrc32 } from '../inflate/combine-crc32.ts';
import { type Checkpoint, compressedStartOf, type GzipInflater, WINDOW_BYTES } from '../inflate/engine.ts';
import type { SpanSink } from '../index/span-sink.ts';

/**
 * Cuts a gzip layer into read spans: at the first block boundary that is more than the span size behind the
 * last cut. A read span is longer than a window, so it refers at most into the span before it.
 */
export class ReadSpanCutter {
  readonly #spanBytes: number;
  readonly #sink: SpanSink;
  readonly #window = new Uint8Array(WINDOW_BYTES);
  #spans = 0;
  #checkpoint: Checkpoint | undefined;
  #uncompressedOffset = 0;
  #crc32 = 0;

  constructor(spanBytes: number, sink: SpanSink) {
    this.#spanBytes = Math.max(spanBytes, WINDOW_BYTES);
    this.#sink = sink;
  }

  takeOutput(bytes: Uint8Array, crc32: number): void {
    this.#uncompressedOffset += bytes.length;
    this.#crc32 = combineCrc32(this.#crc32, crc32, bytes.length);
  }

  considerBoundary(checkpoint: Checkpoint, inflater: GzipInflater): void {
    if (this.#checkpoint !== undefined) {
      if (checkpoint.uncompressedOffset - this.#checkpoint.uncompressedOffset <= this.#spanBytes) return;
      this.endSpan(checkpoint.compressedOffset, inflater);
    }
    this.#checkpoint = checkpoint;
    inflater.beginSpan();
  }

  /** Ends the current span, if there is one. */
  endSpan(compressedEnd: number, inflater: GzipInflater): void {
    if (this.#checkpoint === undefined) return;
    const { bits, uncompressedOffset } = this.#checkpoint;
    const span = {
      id: this.#spans++,
      compressed: { start: compressedStartOf(this.#checkpoint), end: compressedEnd },
      uncompressed: { start: uncompressedOffset, end: this.#uncompressedOffset },
      bits,
      crc32: this.#crc32,
    };
    this.#crc32 = 0;
    this.#sink.addReadSpan(span, inflater.copyUsedWindow(this.#window) ? this.#window : undefined);
  }
}
