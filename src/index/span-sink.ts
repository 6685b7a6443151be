import type { ReadSpan, Span } from '../ztoc/span.ts';

/** Receives the spans of a layer as a build finds them. */
export interface SpanSink {
  /**
   * The window of the next span. Not called for spans that cannot refer to earlier output. Valid only during
   * the call.
   */
  addWindow(window: Uint8Array): void;
  /** Called when all compressed bytes of the span have been read. */
  addSpan(span: Span): void;
  /**
   * gzip with read spans only: the same for a read span.
   * @param window the earlier output that the span refers to, zeros elsewhere; valid only during the call
   */
  addReadSpan(span: ReadSpan, window: Uint8Array | undefined): void;
}

export interface SpanCutterOptions {
  /** gzip: least distance of checkpoints in the uncompressed stream; otherwise: largest size of a span. */
  readonly spanBytes: number;
  /**
   * gzip: least distance of the checkpoints of read spans, at least {@link WINDOW_BYTES}; without it there
   * are no read spans. zstd: a span that has reached half of this size ends with its frame.
   */
  readonly readSpanBytes?: number | undefined;
  readonly sink: SpanSink;
  /** Receives the decompressed layer in order. Valid only during the call. */
  readonly onOutput: (bytes: Uint8Array) => void;
}
