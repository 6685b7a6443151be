import { AsyncLocalStorage } from 'node:async_hooks';

import {
  type Context,
  ROOT_CONTEXT,
  type Span,
  SpanKind as OtelKind,
  SpanStatusCode,
  trace,
  type Tracer as OtelTracer,
} from '@opentelemetry/api';
import { setGlobalErrorHandler, W3CTraceContextPropagator } from '@opentelemetry/core';
import { OTLPTraceExporter } from '@opentelemetry/exporter-trace-otlp-http';
import { detectResources, envDetector, resourceFromAttributes } from '@opentelemetry/resources';
import {
  BatchSpanProcessor,
  ParentBasedSampler,
  TraceIdRatioBasedSampler,
  TracerProvider,
} from '@opentelemetry/sdk-trace';

import { TimeLimit } from '../core/work/time-limit.ts';
import { waitFor } from '../core/wait-for.ts';
import type { Logger } from './logger.ts';
import type { TraceSettings } from './trace-settings.ts';
import type { SpanKind, TraceAttributes, Tracer, TraceSpan } from './tracer.ts';

/** An unreachable collector must not delay the shutdown. */
const SHUTDOWN_MS = 2_000;

const KINDS = { server: OtelKind.SERVER, client: OtelKind.CLIENT, internal: OtelKind.INTERNAL } as const;

/**
 * Sends trace spans in batches to a collector, as JSON by OTLP over HTTP. The exporter itself reads the
 * standard environment variables OTEL_EXPORTER_OTLP_*. With a slow or unreachable collector spans are lost,
 * never requests.
 */
export class OtlpTracer implements Tracer {
  readonly #provider: TracerProvider;
  readonly #tracer: OtelTracer;
  readonly #propagator = new W3CTraceContextPropagator();
  readonly #logger: Logger;
  readonly #running = new AsyncLocalStorage<Context>();

  constructor({ sampler: { ratio, isParentBased }, batch }: TraceSettings, logger: Logger) {
    this.#logger = logger;
    setGlobalErrorHandler((error) => this.#warn(error));
    const own = new TraceIdRatioBasedSampler(ratio);
    const named = resourceFromAttributes({ 'service.name': 'spandrel' });
    this.#provider = new TracerProvider({
      sampler: isParentBased ? new ParentBasedSampler({ root: own }) : own,
      resource: named.merge(detectResources({ detectors: [envDetector] })),
      spanProcessors: [new BatchSpanProcessor({ exporter: new OTLPTraceExporter(), ...batch })],
    });
    this.#tracer = this.#provider.getTracer('spandrel');
  }

  begin(name: string, kind: SpanKind, traceparent?: string): TraceSpan {
    const parent = this.#running.getStore() ?? this.#callerOf(traceparent);
    const span = this.#tracer.startSpan(name, { kind: KINDS[kind] }, parent);
    return new OtlpSpan(span, this.#running, parent);
  }

  #callerOf(traceparent: string | undefined): Context {
    if (traceparent === undefined) return ROOT_CONTEXT;
    const getter = { keys: () => ['traceparent'], get: () => traceparent };
    return this.#propagator.extract(ROOT_CONTEXT, undefined, getter);
  }

  #warn(error: unknown): void {
    this.#logger.warn({ cause: String(error) }, 'traces could not be sent');
  }

  /** Sends the remaining spans, if the collector accepts them. */
  async [Symbol.asyncDispose](): Promise<void> {
    using limit = new TimeLimit(SHUTDOWN_MS);
    const sent = waitFor(this.#provider.shutdown(), limit.signal);
    await sent.catch((error: unknown) => this.#warn(error));
  }
}

class OtlpSpan implements TraceSpan {
  readonly #span: Span;
  readonly #running: AsyncLocalStorage<Context>;
  readonly #parent: Context;

  constructor(span: Span, running: AsyncLocalStorage<Context>, parent: Context) {
    this.#span = span;
    this.#running = running;
    this.#parent = parent;
  }

  get traceId(): string {
    return this.#span.spanContext().traceId;
  }

  rename(name: string): void {
    this.#span.updateName(name);
  }

  set(attributes: TraceAttributes): void {
    for (const [name, value] of Object.entries(attributes))
      if (value !== undefined) this.#span.setAttribute(name, value);
  }

  fail(code: string): void {
    this.#span.setAttribute('error.type', code);
    this.#span.setStatus({ code: SpanStatusCode.ERROR, message: code });
  }

  end(): void {
    this.#span.end();
  }

  run<T>(work: () => T): T {
    return this.#running.run(trace.setSpan(this.#parent, this.#span), work);
  }
}
