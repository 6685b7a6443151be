import type { FastifyRequest } from 'fastify';

import { type ErrorCode, errorCodeOf } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import type { Target } from '../../upstream/target.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { TraceSpan } from '../../telemetry/tracer.ts';
import type { RegistryPath, RouteName } from '../requests/registry-path.ts';
import type { SendResult } from '../responses/send-response.ts';

/** What becomes known of a request while it is handled. */
export interface RequestNotes {
  path?: RegistryPath;
  target?: Target;
  /** Code of the error response. */
  code?: ErrorCode;
}

/** A request whose response has been sent or aborted. */
export interface FinishedRequest {
  readonly request: FastifyRequest;
  readonly notes: RequestNotes;
  readonly result: SendResult;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly clientAborted: boolean;
}

const MAX_USER_AGENT_LENGTH = 200;
/**
 * A write to a socket that the client has closed may fail with these before the socket emits `close`. Failures
 * of upstreams and disks have codes of the error table.
 */
const CLIENT_ABORTED = ['ECONNRESET', 'EPIPE'];

/** Label `route` of metrics. */
export function routeOf({ path }: RequestNotes): RouteName | 'unknown' {
  return path?.route ?? 'unknown';
}

/**
 * Log one line for each request. Of its headers only Range and User-Agent, and no query: the others carry
 * secrets.
 */
export function logRequest(logger: Logger, finished: FinishedRequest, span: TraceSpan): void {
  const { request, notes, result, startedAt, endedAt } = finished;
  const { path, target } = notes;
  const fields = {
    requestId: request.id,
    traceId: span.traceId,
    method: request.method,
    path: request.originalUrl.replace(/\?.*$/s, ''),
    route: routeOf(notes),
    upstream: target?.client.name,
    repository: target?.repository,
    tag:
      path !== undefined && 'reference' in path && 'tag' in path.reference ? path.reference.tag : undefined,
    digest: digestOf(finished),
    range: request.headers.range,
    status: result.status,
    code: notes.code,
    bytes: result.bytes,
    source: result.source,
    client: request.ip,
    userAgent: request.headers['user-agent']?.slice(0, MAX_USER_AGENT_LENGTH),
    firstByteMs: result.headAt === undefined ? undefined : milliseconds(result.headAt - startedAt),
    ms: milliseconds(endedAt - startedAt),
  };
  const { failure } = result;
  // A client may abort at any time; any other failure is worth a warning.
  const isFault = !finished.clientAborted && !CLIENT_ABORTED.includes(nodeErrorCode(failure));
  if (failure !== undefined && isFault)
    logger.warn({ ...fields, code: errorCodeOf(failure), err: failure }, 'response aborted');
  else logger.info(fields, 'request');
}

export function traceRequest(finished: FinishedRequest, span: TraceSpan): void {
  const { request, notes, result } = finished;
  const route = routeOf(notes);
  span.rename(`${request.method} ${route}`);
  span.set({
    'http.request.method': request.method,
    'http.route': route,
    'http.response.status_code': result.status,
    'http.response.body.size': result.bytes,
    'client.address': request.ip,
    'spandrel.request_id': request.id,
    'spandrel.upstream': notes.target?.client.name,
    'spandrel.repository': notes.target?.repository,
    'spandrel.digest': digestOf(finished),
    'spandrel.source': result.source,
  });
  if (result.failure !== undefined) span.fail(errorCodeOf(result.failure));
  else if (result.status >= 500) span.fail(notes.code ?? String(result.status));
}

/** The digest in the path, else that of the response: what the tag points to. */
function digestOf({ notes: { path }, result }: FinishedRequest): string | undefined {
  if (path !== undefined && 'digest' in path) return path.digest;
  if (path !== undefined && 'reference' in path && 'digest' in path.reference) return path.reference.digest;
  return result.contentDigest;
}

function milliseconds(duration: number): number {
  return Math.round(duration * 1000) / 1000;
}
