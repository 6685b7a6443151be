/** Facts about a span, by the semantic conventions of OpenTelemetry where those have a name. Never a credential or a query. */
export type TraceAttributes = Readonly<Record<string, string | number | boolean | undefined>>;

/** Who causes the work: somebody else, we at somebody else, or we here. */
export type SpanKind = 'server' | 'client' | 'internal';

/** A piece of work in a trace. */
export interface TraceSpan {
  /** For log lines; `undefined` while nothing is traced. */
  readonly traceId: string | undefined;
  rename(name: string): void;
  set(attributes: TraceAttributes): void;
  /** @param code of the error table, or another short word of a closed set */
  fail(code: string): void;
  end(): void;
  /** Spans that begin inside of `work`, and in what it starts, belong to this one. */
  run<T>(work: () => T): T;
}

/** Makes traces of what the proxy does. */
export interface Tracer extends AsyncDisposable {
  /**
   * Begin a span as a part of the one that runs, or else of the caller's.
   * @param traceparent the caller's header (W3C Trace Context, section 3.2), if it sent one
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

/** Traces nothing. */
export const NO_TRACER: Tracer = {
  begin: () => NO_SPAN,
  [Symbol.asyncDispose]: () => Promise.resolve(),
};
