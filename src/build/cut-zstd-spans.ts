import { crc32 } from 'node:zlib';

import { isSpandrelError } from '../core/errors.ts';
import { inflateZstd, type InflateZstdOptions, type ZstdDataFrame } from '../inflate/inflate-zstd.ts';
import { CompressedHash } from './compressed-hash.ts';
import type { FrameStart } from '../ztoc/span.ts';
import type { SpanCutterOptions } from '../index/span-sink.ts';

/**
 * Cuts a zstd layer into spans of at most the span size. Each span remembers the frame that it starts in. A
 * span ends with a frame once it has half the size of a read span, so that small frames share spans, and
 * large frames start one. Within a large frame, every read decodes from the start of the frame, so spans
 * there have the full size.
 * The compressed ends of spans depend on the chunks of `compressed`.
 * @throws SpandrelError LAYER_CORRUPT, after output before the fault has been put into spans;
 * LAYER_UNSUPPORTED; errors of `compressed`
 */
export async function cutZstdSpans(
  compressed: AsyncIterable<Uint8Array>,
  options: SpanCutterOptions,
  decoding: Pick<InflateZstdOptions, 'maxWindowBytes' | 'reread'>,
): Promise<void> {
  const cutter = new ZstdSpanCutter(options);
  try {
    for await (const output of inflateZstd(cutter.watch(compressed), {
      ...decoding,
      onFrame: (frame) => cutter.endFrame(frame),
    })) {
      cutter.takeOutput(output);
    }
  } catch (error) {
    if (isSpandrelError(error, 'LAYER_CORRUPT')) cutter.finish();
    throw error;
  }
  cutter.finish();
}

class ZstdSpanCutter {
  readonly #options: SpanCutterOptions;
  readonly #frameSpanBytes: number;
  #spans = 0;
  #start = 0;
  #length = 0;
  #crc32 = 0;
  /** Where decoding for the current span starts; `#hash` covers the input from there. */
  #anchor: FrameStart = { compressedStart: 0, uncompressedStart: 0 };
  #hash = new CompressedHash();
  /** End of the last frame, which becomes the anchor of the next span. */
  #next: { readonly anchor: FrameStart; readonly hash: CompressedHash } | undefined;

  constructor(options: SpanCutterOptions) {
    this.#options = options;
    this.#frameSpanBytes = Math.min(options.spanBytes, options.readSpanBytes ?? options.spanBytes);
    this.#hash.begin(0);
  }

  async *watch(compressed: AsyncIterable<Uint8Array>): AsyncGenerator<Uint8Array, void, void> {
    for await (const chunk of compressed) {
      this.#hash.take(chunk);
      this.#next?.hash.take(chunk);
      yield chunk;
      this.#hash.giveBack();
      this.#next?.hash.giveBack();
    }
  }

  takeOutput(output: Uint8Array): void {
    for (let at = 0; at < output.length;) {
      const part = output.subarray(at, at + this.#options.spanBytes - this.#length);
      at += part.length;
      this.#length += part.length;
      this.#crc32 = crc32(part, this.#crc32);
      this.#options.onOutput(part);
      // The decoder does not say how much of the chunk it needed for this output.
      if (this.#length === this.#options.spanBytes) this.#endSpan(this.#hash.length);
    }
  }

  endFrame({ compressed, uncompressed }: ZstdDataFrame): void {
    const anchor = { compressedStart: compressed.end, uncompressedStart: uncompressed.end };
    this.#next = { anchor, hash: this.#hash.fork(compressed.end) };
    if (this.#length === 0) this.#moveAnchor();
    else if (2 * this.#length >= this.#frameSpanBytes) this.#endSpan(compressed.end);
  }

  finish(): void {
    if (this.#length === 0) return;
    const anchor = this.#next?.anchor;
    // The stream may end within a frame.
    const endsWithFrame = anchor?.uncompressedStart === this.#start + this.#length;
    this.#endSpan(endsWithFrame ? anchor.compressedStart : this.#hash.length);
  }

  #endSpan(compressedEnd: number): void {
    const end = Math.max(compressedEnd, this.#hash.hashedTo);
    this.#options.sink.addSpan({
      id: this.#spans++,
      compressed: { start: this.#anchor.compressedStart, end },
      uncompressed: { start: this.#start, end: this.#start + this.#length },
      bits: 0,
      digest: this.#hash.digest(end),
      crc32: this.#crc32,
      frame: this.#anchor,
    });
    this.#start += this.#length;
    this.#length = 0;
    this.#crc32 = 0;
    this.#moveAnchor();
  }

  #moveAnchor(): void {
    if (this.#next === undefined) return;
    ({ anchor: this.#anchor, hash: this.#hash } = this.#next);
    this.#next = undefined;
  }
}
