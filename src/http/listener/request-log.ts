import type { FastifyRequest } from 'fastify';

import { type ErrorCode, errorCodeOf } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import type { Target } from '../../images/documents/target.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { TraceSpan } from '../../telemetry/tracer.ts';
import type { RegistryPath, RouteName } from '../requests/registry-path.ts';
import type { SendResult } from '../answers/send-answer.ts';

/** What is learnt of a request on its way to the answer. */
export interface RequestNotes {
  path?: RegistryPath;
  target?: Target;
  /** Of an error answer. */
  code?: ErrorCode;
}

/** A request that is over. */
export interface FinishedRequest {
  readonly request: FastifyRequest;
  readonly notes: RequestNotes;
  readonly result: SendResult;
  readonly startedAt: number;
  readonly endedAt: number;
  readonly clientHasGone: boolean;
}

const MOST_LOGGED = 200;
/** Of a write to a socket that its client has closed; it may fail before the socket says so. What upstreams and disks do has codes of ours. */
const CLIENT_GONE = ['ECONNRESET', 'EPIPE'];

/** Label of metrics. */
export function routeOf({ path }: RequestNotes): RouteName | 'unknown' {
  return path?.route ?? 'unknown';
}

/** One line for each request, whatever became of it. No header but Range and User-Agent, and no query: those carry secrets. */
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
    userAgent: request.headers['user-agent']?.slice(0, MOST_LOGGED),
    firstByteMs: result.headAt === undefined ? undefined : milliseconds(result.headAt - startedAt),
    ms: milliseconds(endedAt - startedAt),
  };
  const { failure } = result;
  // A client that leaves is no fault of anybody's; anything else that breaks an answer is.
  const isOurs = !finished.clientHasGone && !CLIENT_GONE.includes(nodeErrorCode(failure));
  if (failure !== undefined && isOurs)
    logger.warn({ ...fields, code: errorCodeOf(failure), err: failure }, 'answer broken off');
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

/** Of what was asked for, or of what a tag was answered with. */
function digestOf({ notes: { path }, result }: FinishedRequest): string | undefined {
  if (path !== undefined && 'digest' in path) return path.digest;
  if (path !== undefined && 'reference' in path && 'digest' in path.reference) return path.reference.digest;
  return result.contentDigest;
}

function milliseconds(duration: number): number {
  return Math.round(duration * 1000) / 1000;
}
