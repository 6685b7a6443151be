import { randomUUID } from 'node:crypto';

import { type FastifyInstance, fastify, type FastifyRequest, LogController } from 'fastify';

import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { libraryLogger, type Logger } from '../../telemetry/logger.ts';
import { runForRequest } from '../../telemetry/run-for-request.ts';
import type { AdminGuard } from '../access/admin-guard.ts';
import { AllowedMethods, WHOLE_SERVER } from '../listener/allowed-methods.ts';
import { checkExpectation } from '../listener/check-expectation.ts';
import { Closing } from '../listener/closing.ts';
import { serverOptions } from '../listener/server-options.ts';
import type { TlsMaterial } from '../listener/tls-material.ts';
import { readHost } from '../requests/read-host.ts';
import { parseRequestTarget } from '../requests/request-target.ts';
import { errorResponse } from '../responses/error-response.ts';
import { COMMON_HEADERS } from '../responses/registry-response.ts';
import { ADMIN_API } from './admin-api.ts';
import type { JsonSchema } from './admin-api-schemas.ts';
import { healthRoutes, type HealthRoutesDeps } from './health-routes.ts';
import { documentAdminApi } from './document-admin-api.ts';
import { profileRoutes, type ProfileRoutesDeps } from './profile-routes.ts';
import { replicaRoutes, type ReplicaRoutesDeps } from './replica-routes.ts';
import { storeRoutes, type StoreRoutesDeps } from './store-routes.ts';
import { jobRoutes, type JobRoutesDeps } from './job-routes.ts';

export interface AdminServerDeps
  extends HealthRoutesDeps, StoreRoutesDeps, ProfileRoutesDeps, ReplicaRoutesDeps, JobRoutesDeps {
  readonly guard: AdminGuard;
  readonly tls: TlsMaterial | undefined;
  readonly logger: Logger;
}

const MAX_USER_AGENT_LENGTH = 200;
/** Orchestrators and Prometheus ask for these all the time. */
const POLLED: ReadonlySet<string> = new Set(['/healthz', '/readyz', '/metrics']);

/**
 * The admin API, on a listener of its own, which clients of the registry need not reach. Does not listen
 * yet.
 */
export function createAdminServer(deps: AdminServerDeps): FastifyInstance {
  const server = fastify({
    loggerInstance: libraryLogger(deps.logger),
    // Events log one line for each request.
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => randomUUID(),
    // An absolute target is routed, and guarded, by its path.
    rewriteUrl: ({ url = '' }) => originForm(url),
    // A body is what its schema says, or an error: nothing is converted or removed.
    ajv: { customOptions: { coerceTypes: false, removeAdditional: false, useDefaults: false } },
    ...serverOptions(deps),
  }) as unknown as FastifyInstance;
  const allowed = new AllowedMethods(server);
  const closing = new Closing();
  closing.watch(server);

  // Only JSON bodies are read, with or without their content type. HTML forms can send other types.
  server.removeContentTypeParser('text/plain');
  const parseJson = server.getDefaultJsonParser('error', 'error');
  server.addContentTypeParser<string>('*', { parseAs: 'string' }, (request, body, done) => {
    const { 'content-type': type } = request.headers;
    if (type === undefined) return parseJson(request, body, done);
    done(bodyError(`the content type is ${type}, not application/json`, request));
  });
  // Schemas describe responses and do not change them: fast-json-stringify drops fields that a schema lacks.
  server.setSerializerCompiler(() => (value) => JSON.stringify(value));

  const errors = new WeakMap<FastifyRequest, unknown>();
  server.addHook('onRequest', (request, reply, done) => {
    reply.header('x-request-id', request.id);
    runForRequest(request.id, done);
  });
  server.addHook('onResponse', (request, reply, done) => {
    const path = pathOf(request.url);
    deps.events.operationsRequestServed({
      requestId: request.id,
      method: request.method,
      path,
      status: reply.statusCode,
      error: errors.get(request),
      client: request.ip,
      userAgent: request.headers['user-agent']?.slice(0, MAX_USER_AGENT_LENGTH),
      durationMs: reply.elapsedTime,
      isPolled: POLLED.has(path),
    });
    done();
  });
  server.addHook('onRequest', async ({ raw, method, headers, url, originalUrl, ip }, reply) => {
    reply.headers(COMMON_HEADERS);
    closing.admit();
    deps.guard.admit({
      method,
      path: pathOf(url),
      headers,
      host: readHost(raw, parseRequestTarget(originalUrl)),
      address: ip,
      hasCertificate: 'authorized' in raw.socket && raw.socket.authorized === true,
    });
    checkExpectation(raw);
  });

  documentAdminApi(server);
  server.register(healthRoutes, deps);
  server.register(storeRoutes, deps);
  server.register(profileRoutes, deps);
  server.register(replicaRoutes, deps);
  server.register(jobRoutes, deps);
  server.register(async (routes) => {
    routes.route({ ...ADMIN_API.openApi, handler: async () => server.swagger() });
  });

  server.setNotFoundHandler((request, reply) => {
    const path = pathOf(request.url);
    const allow = allowed.of(path);
    if (allow === undefined)
      throw new SpandrelError('ROUTE_UNKNOWN', `no such route: ${request.method} ${path.slice(0, 300)}`);
    if (request.method === 'OPTIONS') return reply.code(204).header('allow', allow).send();
    reply.header('allow', allow);
    throw new SpandrelError('UNSUPPORTED', `this route has no ${request.method}, only ${allow}`);
  });

  server.setErrorHandler((error, request, reply) => {
    const failure = isClientError(error) ? bodyError(error.message, request) : error;
    errors.set(request, failure);
    const { status, headers, body } = errorResponse(failure);
    const { allow = headers['allow'] } = reply.getHeaders();
    const more = {
      ...(status === 405 ? { allow } : {}),
      ...(status === 401 ? { 'www-authenticate': 'Bearer realm="Spandrel operations"' } : {}),
    };
    return reply
      .code(status)
      .headers({ ...headers, ...more })
      .send(body);
  });
  return server;
}

function pathOf(url: string): string {
  return url.replace(/\?.*$/s, '');
}

/** Path and query of a request target, for the router. A malformed target becomes a path that is no route. */
function originForm(text: string): string {
  try {
    const { path, query } = parseRequestTarget(text);
    return path === '*' ? WHOLE_SERVER : `${path}${query === '' ? '' : `?${query}`}`;
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    return `/${encodeURIComponent(text)}`;
  }
}

/** With the example of the operation's schema, if its body has one. */
function bodyError(message: string, { routeOptions }: FastifyRequest): SpandrelError {
  const { examples } = (routeOptions.schema?.body ?? {}) as JsonSchema;
  const example = Array.isArray(examples) ? `; send JSON like ${JSON.stringify(examples[0])}` : '';
  return new SpandrelError('QUERY_INVALID', `${message}${example}`);
}

/** True for fastify's own errors about a body that it cannot read, or that its schema forbids. */
function isClientError(error: unknown): error is Error {
  if (isSpandrelError(error) || !(error instanceof Error) || !('statusCode' in error)) return false;
  return typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500;
}
