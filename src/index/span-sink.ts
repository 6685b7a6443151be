import type { ReadSpan, Span } from '../ztoc/span.ts';

/** Takes the spans of a layer as they are found. */
export interface SpanSink {
  /** The window of the span that is found next. A span that cannot refer to earlier output has none. Valid during the call only. */
  addWindow(window: Uint8Array): void;
  /** The compressed bytes of the span have all been there. */
  addSpan(span: Span): void;
  /**
   * gzip, where read spans are wanted: the same for one of them.
   * @param window what it refers to of the output before it, zeros elsewhere; valid during the call only
   */
  addReadSpan(span: ReadSpan, window: Uint8Array | undefined): void;
}

export interface SpanCutterOptions {
  /** gzip: least distance of checkpoints in the uncompressed stream; else: largest size of a span. */
  readonly spanBytes: number;
  /**
   * gzip: least distance of the checkpoints of read spans, at least {@link WINDOW_BYTES}; no read spans when not given. zstd: a span
   * of half this size ends with its frame.
   */
  readonly readSpanBytes?: number | undefined;
  readonly sink: SpanSink;
  /** The decompressed layer, in order. Valid during the call only. */
  readonly onOutput: (bytes: Uint8Array) => void;
}
