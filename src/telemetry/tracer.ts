/**
 * Attributes of a trace span, with names of OpenTelemetry's semantic conventions where there are any. No
 * credentials or queries.
 */
export type TraceAttributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** Kind of a trace span: a request of a client, a request to another server, or work of our own. */
export type SpanKind = 'server' | 'client' | 'internal';

/** A span of a trace: one piece of work. */
export interface TraceSpan {
  /** For log lines; `undefined` without a tracer. */
  readonly traceId: string | undefined;
  rename(name: string): void;
  set(attributes: TraceAttributes): void;
  /** @param code code of the error table, or another word from a closed set */
  fail(code: string): void;
  end(): void;
  /** Runs `work`. Spans that begin within it, or in work that it starts, are children of this span. */
  run<T>(work: () => T): T;
}

/** Creates traces. */
export interface Tracer extends AsyncDisposable {
  /**
   * Begins a span as a child of the running span, or else of the caller's.
   * @param traceparent the caller's header (W3C Trace Context, section 3.2), if any
   */
  begin(name: string, kind: SpanKind, traceparent?: string): TraceSpan;
}

const NO_SPAN: TraceSpan = {
  traceId: undefined,
  rename: () => undefined,
  set: () => undefined,
  fail: () => undefined,
  end: () => undefined,
  run: (work) => work(),
};

/** The tracer that is off. */
export const NO_TRACER: Tracer = {
  begin: () => NO_SPAN,
  [Symbol.asyncDispose]: () => Promise.resolve(),
};
