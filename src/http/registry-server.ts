import { randomUUID } from 'node:crypto';
import type { IncomingMessage, ServerResponse } from 'node:http';

import { type FastifyInstance, fastify, type FastifyRequest, LogController } from 'fastify';

import { ERRORS, isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Answer } from './answer.ts';
import { AnswerDeadline } from './answer-deadline.ts';
import { breakOff } from './break-off.ts';
import { answerError } from './error-answer.ts';
import { serverOptions } from './listener/server-options.ts';
import type { ServerLimits } from './listener/create-server.ts';
import type { TlsMaterial } from './listener/tls-material.ts';
import { parseRegistryPath, type RouteName } from './registry-path.ts';
import { type RegistryDeps, routeRegistryRequest } from './registry-routes.ts';
import { sendAnswer, type SendResult } from './send-answer.ts';

export interface RegistryServerDeps extends RegistryDeps {
  readonly metrics: Metrics;
  readonly logger: Logger;
  readonly tls: TlsMaterial | undefined;
  readonly limits: ServerLimits & { readonly stalledClientMs: number };
}

/** The one route that fastify sees for everything below `/v2/`; the path is parsed from the original URL. */
const REGISTRY_ROUTE = '/registry';

/** The registry and span API. Built without listening. */
export function createRegistryServer(deps: RegistryServerDeps): FastifyInstance {
  const server = fastify({
    loggerInstance: deps.logger,
    // One line a request, with what this server knows of it, is written below.
    logController: new LogController({ disableRequestLogging: true }),
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
    genReqId: () => randomUUID(),
    rewriteUrl: () => REGISTRY_ROUTE,
    ...serverOptions(deps),
  });
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', (_request, _payload, done) => done(null));
  server.route({
    method: ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'],
    url: REGISTRY_ROUTE,
    handler: async (request, reply) => {
      reply.hijack();
      await serve(deps, request, reply.raw);
    },
  });
  return server as unknown as FastifyInstance;
}

async function serve(
  deps: RegistryServerDeps,
  request: FastifyRequest,
  response: ServerResponse,
): Promise<void> {
  const started = performance.now();
  const gone = new AbortController();
  const { server } = request.server;
  // A connection that was busy when the server was closed would stay open until its client has enough of it.
  response.once('finish', () => setImmediate(() => server.listening || server.closeIdleConnections()));
  response.once('close', () => response.writableFinished || gone.abort(new Error('the client has gone')));
  using deadline = new AnswerDeadline(response, request.headers['user-agent'], gone.signal);
  const { signal } = deadline;
  let route: RouteName | 'unknown' = 'unknown';
  let result: SendResult;
  try {
    const answer = await answerRequest(
      deps,
      request.raw,
      request.originalUrl,
      request.ip,
      signal,
      (name) => (route = name),
    );
    result = await sendAnswer(response, answer, {
      head: request.method === 'HEAD',
      signal,
      stallTimeoutMs: deps.limits.stalledClientMs,
    });
  } catch (error) {
    result = await sendError(deps, request, response, error, gone.signal);
  }
  const seconds = (performance.now() - started) / 1000;
  deps.metrics.httpRequests.inc({ route, method: request.method, status: String(result.status) });
  deps.metrics.httpDuration.observe({ route }, seconds);
  if (result.source !== undefined) deps.metrics.servedBytes.inc({ source: result.source }, result.bytes);
  logRequest(request, route, result, seconds, gone.signal);
}

async function answerRequest(
  deps: RegistryServerDeps,
  message: IncomingMessage,
  url: string,
  address: string,
  signal: AbortSignal,
  onRoute: (route: RouteName) => void,
): Promise<Answer> {
  deps.access.admitAddress(address);
  const question = url.indexOf('?');
  const rawPath = question < 0 ? url : url.slice(0, question);
  const { method } = message;
  if (method !== 'GET' && method !== 'HEAD') {
    throw new SpandrelError('UNSUPPORTED', 'the proxy is read-only: push to the upstream registry');
  }
  const host = hostOf(message);
  const path = parseRegistryPath(rawPath);
  onRoute(path.route);
  const query = new URLSearchParams(question < 0 ? '' : url.slice(question + 1));
  return routeRegistryRequest(deps, {
    method,
    path,
    query,
    headers: message.headers,
    host,
    client: address,
    url,
    signal,
  });
}

/**
 * What the client believes to talk to. HTTP/2 has `:authority` where HTTP/1.1 must have one Host (RFC 9113, section 8.3.1; RFC 9112,
 * section 3.2).
 * @throws SpandrelError REQUEST_INVALID
 */
function hostOf({ headers, rawHeaders, httpVersion }: IncomingMessage): string | undefined {
  const { host, ':authority': authority } = headers;
  if (httpVersion !== '1.1') return host ?? (typeof authority === 'string' ? authority : undefined);
  const hosts = rawHeaders.filter((name, place) => place % 2 === 0 && name.toLowerCase() === 'host');
  if (hosts.length !== 1) throw new SpandrelError('REQUEST_INVALID', 'a request has one Host header');
  return host;
}

/** An error answer; nothing at all if the head has been sent or the client has gone. */
async function sendError(
  deps: RegistryServerDeps,
  request: FastifyRequest,
  response: ServerResponse,
  error: unknown,
  signal: AbortSignal,
): Promise<SendResult> {
  if (signal.aborted || response.headersSent) {
    breakOff(response);
    return { status: 499, bytes: 0, source: undefined };
  }
  if (!isSpandrelError(error)) request.log.error({ err: error }, 'defect');
  else if (ERRORS[error.code].status >= 500)
    deps.logger.warn({ code: error.code, cause: describeCause(error) }, error.message);
  return sendAnswer(response, answerError(error), {
    head: request.method === 'HEAD',
    signal,
    stallTimeoutMs: deps.limits.stalledClientMs,
  });
}

function describeCause(error: Error): string | undefined {
  return error.cause instanceof Error ? error.cause.message : undefined;
}

function logRequest(
  request: FastifyRequest,
  route: string,
  result: SendResult,
  seconds: number,
  signal: AbortSignal,
): void {
  const { status, bytes, source, failure } = result;
  const fields = {
    method: request.method,
    path: request.originalUrl.replace(/\?.*$/s, ''),
    route,
    status,
    bytes,
    source,
    range: request.headers.range,
    client: request.ip,
    ms: Math.round(seconds * 1e6) / 1e3,
  };
  // A client that leaves is no fault of anybody's; anything else that breaks an answer is.
  if (failure !== undefined && !signal.aborted)
    request.log.warn(
      { ...fields, code: isSpandrelError(failure) ? failure.code : 'INTERNAL', err: failure },
      'answer broken off',
    );
  else request.log.info(fields, 'request');
}
