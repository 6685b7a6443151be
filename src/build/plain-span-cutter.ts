import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';

import { finishDigest } from '../core/digest.ts';
import type { SpanCutterOptions } from '../index/span-sink.ts';

/**
 * Cuts an uncompressed layer into slices of the span size (soci-snapshotter `ztoc/compression/tar_zinfo.go`).
 */
export class PlainSpanCutter {
  readonly #options: SpanCutterOptions;
  #spans = 0;
  #start = 0;
  #length = 0;
  #hash = createHash('sha256');
  #crc32 = 0;

  constructor(options: SpanCutterOptions) {
    this.#options = options;
  }

  write(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + this.#options.spanBytes - this.#length);
      at += part.length;
      this.#length += part.length;
      this.#hash.update(part);
      this.#crc32 = crc32(part, this.#crc32);
      this.#options.onOutput(part);
      if (this.#length === this.#options.spanBytes) this.#endSpan();
    }
  }

  finish(): void {
    if (this.#length > 0) this.#endSpan();
  }

  #endSpan(): void {
    const range = { start: this.#start, end: this.#start + this.#length };
    const digest = finishDigest(this.#hash);
    this.#options.sink.addSpan({
      id: this.#spans++,
      compressed: range,
      uncompressed: range,
      bits: 0,
      digest,
      crc32: this.#crc32,
    });
    this.#start = range.end;
    this.#length = 0;
    this.#hash = createHash('sha256');
    this.#crc32 = 0;
  }
}
