import { randomUUID } from 'node:crypto';
import type { ServerResponse } from 'node:http';

import {
  type FastifyInstance,
  fastify,
  type FastifyReply,
  type FastifyRequest,
  LogController,
} from 'fastify';

import { errorCodeOf, ERRORS, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Tracer } from '../../telemetry/tracer.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import { ResponseDeadline } from '../responses/response-deadline.ts';
import { abortResponse } from '../responses/abort-response.ts';
import { ALLOWED_METHODS, errorResponse } from '../responses/error-response.ts';
import { checkExpectation } from '../listener/expectation.ts';
import { serverOptions } from '../listener/server-options.ts';
import { Closing } from '../listener/closing.ts';
import type { ServerLimits } from '../listener/create-server.ts';
import type { TlsMaterial } from '../listener/tls-material.ts';
import { parseRegistryPath } from '../requests/registry-path.ts';
import { readHost } from '../requests/request-host.ts';
import { parseRequestTarget } from '../requests/request-target.ts';
import { type RegistryDeps, routeRegistryRequest } from './registry-routes.ts';
import { describeRequest, type RequestNotes } from '../listener/request-log.ts';
import { sendResponse, type SendResult } from '../responses/send-response.ts';
import { SendTurns } from '../responses/send-turns.ts';

export interface RegistryServerDeps extends RegistryDeps {
  readonly events: Events;
  readonly tracer: Tracer;
  readonly logger: Logger;
  readonly tls: TlsMaterial | undefined;
  readonly limits: ServerLimits & { readonly stalledClientMs: number };
}

interface ServingDeps extends RegistryServerDeps {
  readonly closing: Closing;
  readonly turns: SendTurns;
}

/** The one route that fastify sees for everything below `/v2/`; the path is parsed from the original URL. */
const REGISTRY_ROUTE = '/registry';

/** The registry and span API. Built without listening. */
export function createRegistryServer(deps: RegistryServerDeps): FastifyInstance {
  const serving = { ...deps, closing: new Closing(), turns: new SendTurns() };
  const server = fastify({
    loggerInstance: deps.logger,
    // One line a request, with what this server knows of it, is written below.
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (logger) => logger,
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
    genReqId: () => randomUUID(),
    rewriteUrl: () => REGISTRY_ROUTE,
    ...serverOptions(deps),
  });
  server.server.on('connection', () => serving.turns.noteConnection());
  // No body is ever wanted: whoever waits for leave to send one gets the final status instead.
  server.server.on('checkContinue', (request, response) => server.server.emit('request', request, response));
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', (_request, _payload, done) => done(null));
  const handler = async (request: FastifyRequest, reply: FastifyReply): Promise<void> => {
    reply.hijack();
    await serve(serving, request, reply.raw);
  };
  server.route({ method: ['GET', 'HEAD', 'OPTIONS'], url: REGISTRY_ROUTE, handler });
  // Every other method that Node knows.
  server.setNotFoundHandler(handler);
  serving.closing.watch(server as unknown as FastifyInstance);
  return server as unknown as FastifyInstance;
}

/** The same for every route. */
const OPTIONS_RESPONSE: RegistryResponse = { status: 204, headers: { allow: ALLOWED_METHODS } };

async function serve(deps: ServingDeps, request: FastifyRequest, response: ServerResponse): Promise<void> {
  const startedAt = performance.now();
  using _held = deps.events.hold('request');
  const traceparent = request.headers['traceparent'];
  const span = deps.tracer.begin(
    request.method,
    'server',
    typeof traceparent === 'string' ? traceparent : undefined,
  );
  const gone = new AbortController();
  const { server } = request.server;
  // A connection that was busy when the server was closed would stay open until its client has enough of it.
  response.once('finish', () => setImmediate(() => server.listening || server.closeIdleConnections()));
  response.once('close', () => response.writableFinished || gone.abort(new Error('the client aborted')));
  const notes: RequestNotes = {};
  const result = await span.run(() => respond(deps, request, response, notes, gone.signal));
  const clientAborted = gone.signal.aborted;
  const finished = { request, notes, result, startedAt, endedAt: performance.now(), clientAborted };
  deps.events.requestServed(describeRequest(finished), span);
  span.end();
}

async function respond(
  deps: ServingDeps,
  request: FastifyRequest,
  response: ServerResponse,
  notes: RequestNotes,
  gone: AbortSignal,
): Promise<SendResult> {
  using deadline = new ResponseDeadline(response, request.headers['user-agent'], gone);
  const { signal } = deadline;
  try {
    const answer = await answerRequest(deps, request, notes, signal);
    return await send(deps, request, response, answer, deadline);
  } catch (error) {
    notes.code = errorCodeOf(error);
    return await sendError(deps, request, response, error, gone);
  }
}

async function answerRequest(
  deps: ServingDeps,
  request: FastifyRequest,
  notes: RequestNotes,
  signal: AbortSignal,
): Promise<RegistryResponse> {
  const { method, headers, originalUrl, ip: client } = request;
  deps.closing.admit();
  deps.access.admitAddress(client);
  checkExpectation(request.raw);
  if (method !== 'GET' && method !== 'HEAD' && method !== 'OPTIONS') {
    throw new SpandrelError('UNSUPPORTED', 'the proxy is read-only: push to the upstream registry');
  }
  const target = parseRequestTarget(originalUrl);
  const host = readHost(request.raw, target);
  deps.access.admitPage({ method, headers, host }, client);
  if (method === 'OPTIONS' && target.path === '*') return OPTIONS_RESPONSE;
  const path = parseRegistryPath(target.path);
  notes.path = path;
  if (method === 'OPTIONS') return OPTIONS_RESPONSE;
  return routeRegistryRequest(deps, {
    method,
    path,
    query: new URLSearchParams(target.query),
    headers,
    host,
    client,
    url: target.query === '' ? target.path : `${target.path}?${target.query}`,
    signal,
    onTarget: (target) => (notes.target = target),
  });
}

/** An error answer; nothing at all if the head has been sent or the client has gone. */
async function sendError(
  deps: ServingDeps,
  request: FastifyRequest,
  response: ServerResponse,
  error: unknown,
  signal: AbortSignal,
): Promise<SendResult> {
  if (signal.aborted || response.headersSent) {
    abortResponse(response);
    return { status: 499, bytes: 0, source: undefined };
  }
  if (!isSpandrelError(error)) deps.logger.error({ requestId: request.id, err: error }, 'defect');
  else if (ERRORS[error.code].status >= 500)
    deps.logger.warn({ code: error.code, cause: describeCause(error) }, error.message);
  return send(deps, request, response, errorResponse(error), { signal });
}

function send(
  { limits, turns }: ServingDeps,
  request: FastifyRequest,
  response: ServerResponse,
  answer: RegistryResponse,
  { signal, headAloneMs }: { readonly signal: AbortSignal; readonly headAloneMs?: number | undefined },
): Promise<SendResult> {
  return sendResponse(response, answer, {
    head: request.method === 'HEAD',
    signal,
    headAloneMs,
    stallTimeoutMs: Math.min(limits.stalledClientMs, limits.stallTimeoutMs),
    requestId: request.id,
    turns,
  });
}

function describeCause(error: Error): string | undefined {
  return error.cause instanceof Error ? error.cause.message : undefined;
}
