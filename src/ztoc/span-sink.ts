import type { Span } from './span.ts';

/** Takes the spans of a layer as they are found. */
export interface SpanSink {
  /** The window of the span that is found next. A span that cannot refer to earlier output has none. Valid during the call only. */
  addWindow(window: Uint8Array): void;
  /** The compressed bytes of the span have all been there. */
  addSpan(span: Span): void;
}

export interface SpanCutterOptions {
  /** gzip: least distance of checkpoints in the uncompressed stream; else: largest size of a span. */
  readonly spanBytes: number;
  readonly sink: SpanSink;
  /** The decompressed layer, in order. Valid during the call only. */
  readonly onOutput: (bytes: Uint8Array) => void;
}
