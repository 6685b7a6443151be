import { errorCodeOf } from '../core/errors.ts';
import type { Logger } from './logger.ts';
import type { ByteSource } from './metrics.ts';
import type { TraceSpan } from './tracer.ts';

/** A request of a client whose response has been sent or aborted. Never a credential or a query. */
export interface ServedRequest {
  readonly requestId: string;
  readonly method: string;
  readonly path: string;
  readonly route: string;
  readonly upstream: string | undefined;
  readonly repository: string | undefined;
  readonly tag: string | undefined;
  /** Digest in the path, or of the manifest that the tag points to. */
  readonly digest: string | undefined;
  readonly range: string | undefined;
  readonly status: number;
  /** What the error response stands for. */
  readonly error: unknown;
  /** Body bytes that were sent. */
  readonly bytes: number;
  readonly source: ByteSource | undefined;
  readonly client: string;
  readonly userAgent: string | undefined;
  readonly firstByteMs: number | undefined;
  readonly durationMs: number;
  /** Why the response was aborted after its head was sent. */
  readonly failure: unknown;
  /** The client closed the connection before it had the response. */
  readonly clientAborted: boolean;
}

/** Writes one line for a request. */
export function logServedRequest(logger: Logger, request: ServedRequest, traceId: string | undefined): void {
  const { requestId, firstByteMs, durationMs, error, failure, clientAborted, ...rest } = request;
  const fields = {
    requestId,
    traceId,
    ...rest,
    code: error === undefined ? undefined : errorCodeOf(error),
    firstByteMs: firstByteMs === undefined ? undefined : roundToMicroseconds(firstByteMs),
    ms: roundToMicroseconds(durationMs),
  };
  // A client may abort at any time; any other failure is worth a warning.
  if (failure !== undefined && !clientAborted)
    logger[levelOf(failure)]({ ...fields, code: errorCodeOf(failure), err: failure }, 'response aborted');
  else if (request.status >= 500) logger[levelOf(error)]({ ...fields, err: error }, 'request');
  else logger.info(fields, 'request');
}

/** A request to the operations listener that has its response. */
export interface OperationsRequest {
  readonly requestId: string;
  readonly method: string;
  readonly path: string;
  readonly status: number;
  /** What the error response stands for. */
  readonly error: unknown;
  readonly client: string;
  readonly userAgent: string | undefined;
  readonly durationMs: number;
  /** A program asks for it every few seconds. */
  readonly isPolled: boolean;
}

/** One line for each request; for one that is polled and succeeds, at `debug`. */
export function logOperationsRequest(logger: Logger, request: OperationsRequest): void {
  const { durationMs, isPolled, error, ...rest } = request;
  const code = error === undefined ? undefined : errorCodeOf(error);
  const fields = { ...rest, code, ms: roundToMicroseconds(durationMs) };
  const message = 'operations request';
  if (request.status >= 500) logger[levelOf(error)]({ ...fields, err: error }, message);
  else logger[isPolled && request.status < 400 ? 'debug' : 'info'](fields, message);
}

/** `error` for a defect of the proxy. */
function levelOf(error: unknown): 'warn' | 'error' {
  return error !== undefined && errorCodeOf(error) === 'INTERNAL' ? 'error' : 'warn';
}

/** Sets attributes by the semantic conventions of OpenTelemetry, where they have a name. */
export function traceServedRequest(request: ServedRequest, traceSpan: TraceSpan): void {
  const { method, route, status, bytes, failure } = request;
  traceSpan.rename(`${method} ${route}`);
  traceSpan.set({
    'http.request.method': method,
    'http.route': route,
    'http.response.status_code': status,
    'http.response.body.size': bytes,
    'client.address': request.client,
    'spandrel.request_id': request.requestId,
    'spandrel.upstream': request.upstream,
    'spandrel.repository': request.repository,
    'spandrel.digest': request.digest,
    'spandrel.source': request.source,
  });
  if (failure !== undefined) traceSpan.fail(errorCodeOf(failure));
  else if (status >= 500)
    traceSpan.fail(request.error === undefined ? String(status) : errorCodeOf(request.error));
}

function roundToMicroseconds(ms: number): number {
  return Math.round(ms * 1000) / 1000;
}
