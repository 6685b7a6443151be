import { randomUUID } from 'node:crypto';

import { type FastifyInstance, fastify, type FastifyRequest, LogController } from 'fastify';

import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { libraryLogger, type Logger } from '../../telemetry/logger.ts';
import { PROOF_HEADER } from '../../replicas/peer-client.ts';
import type { AccessGate } from '../access/access-gate.ts';
import type { AdmittedPeer } from '../access/peer-access.ts';
import { Closing } from '../listener/closing.ts';
import { checkExpectation } from '../listener/check-expectation.ts';
import { serverOptions } from '../listener/server-options.ts';
import type { TlsMaterial } from '../listener/tls-material.ts';
import { connectionNumber } from '../requests/connection-number.ts';
import { parseNamespace } from '../requests/parse-namespace.ts';
import { readHost } from '../requests/read-host.ts';
import { parseRegistryPath, type RegistryPath } from '../requests/registry-path.ts';
import { parseRequestTarget } from '../requests/request-target.ts';
import { ALLOWED_METHODS } from '../responses/error-response.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import { SendTurns } from '../responses/send-turns.ts';
import { routeUrl, ACTIVE_REQUEST, activeRequest } from './add-route.ts';
import { baseRoutes, type BaseRoutesDeps } from './base-routes.ts';
import { repositoryRoutes, type RepositoryRoutesDeps } from './repository-routes.ts';
import { ActiveRequest, type ActiveRequestDeps } from './active-request.ts';

export interface RegistryServerDeps
  extends BaseRoutesDeps, RepositoryRoutesDeps, Omit<ActiveRequestDeps, 'turns'> {
  readonly tls: TlsMaterial | undefined;
  readonly logger: Logger;
}

const OPTIONS_RESPONSE: RegistryResponse = { status: 204, headers: { allow: ALLOWED_METHODS } };

/** The registry and span API. Does not listen yet. */
export function createRegistryServer(deps: RegistryServerDeps): FastifyInstance {
  const turns = new SendTurns();
  const activeDeps = { ...deps, turns };
  const closing = new Closing();
  const paths: ParsedPaths = new WeakMap();
  const server = fastify({
    loggerInstance: libraryLogger(deps.logger),
    // `ActiveRequest` logs one line for each request.
    logController: new LogController({ disableRequestLogging: true }),
    childLoggerFactory: (logger) => logger,
    exposeHeadRoutes: false,
    forceCloseConnections: 'idle',
    genReqId: () => randomUUID(),
    rewriteUrl: (request) => findRouteUrl(request, paths),
    ...serverOptions(deps),
  }) as unknown as FastifyInstance;
  const listener = server.server;
  listener.on('connection', () => turns.noteConnection());
  // No route reads a body: a client that waits for permission to send one gets the final status instead.
  listener.on('checkContinue', (request, response) => listener.emit('request', request, response));
  server.removeAllContentTypeParsers();
  server.addContentTypeParser('*', (_request, _payload, done) => done(null));
  closing.watch(server);

  server.decorateRequest(ACTIVE_REQUEST);
  server.addHook('onRequest', (request, { raw }, done) => {
    const active = new ActiveRequest(activeDeps, request, raw);
    request.setDecorator(ACTIVE_REQUEST, active);
    // A connection that was busy when the server was closed would stay open until its client closes it.
    raw.once('finish', () => setImmediate(() => listener.listening || listener.closeIdleConnections()));
    active.run(done);
  });
  server.addHook('onRequest', async (request, reply) => {
    closing.admit();
    const active = activeRequest(request);
    if (!admitRequest({ access: deps.access, paths }, request, active))
      await active.send(reply, OPTIONS_RESPONSE);
  });
  server.setErrorHandler((error, request, reply) => activeRequest(request).fail(reply, error));
  server.register(baseRoutes, deps);
  server.register(repositoryRoutes, deps);
  return server;
}

/**
 * The replica that has signed the request; else the address counts.
 * @throws SpandrelError DENIED, OVERLOADED
 */
function admitSender(
  access: AccessGate,
  { method, headers, originalUrl, ip }: FastifyRequest,
): AdmittedPeer | undefined {
  try {
    const peer = access.admitPeer(method, originalUrl, headers);
    if (peer !== undefined) return peer;
  } catch (error) {
    access.admitAddress(ip);
    throw error;
  }
  access.admitAddress(ip);
  return undefined;
}

/** The parsed paths of requests that are being routed. */
type ParsedPaths = WeakMap<object, RegistryPath>;

/** The URL of the route. If the path is invalid, any will do: {@link admitRequest} refuses the request. */
function findRouteUrl(request: { readonly url?: string | undefined }, paths: ParsedPaths): string {
  try {
    const path = parseRegistryPath(parseRequestTarget(request.url ?? '').path);
    paths.set(request, path);
    return routeUrl(path.route);
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    return '/';
  }
}

/**
 * Check what does not depend on the repository, and parse the request.
 * @returns false for OPTIONS, which has the same response on every route
 * @throws SpandrelError DENIED, OVERLOADED, EXPECTATION_FAILED, UNSUPPORTED, REQUEST_INVALID, what
 * `parseRegistryPath` and `parseNamespace` throw
 */
function admitRequest(
  { access, paths }: { readonly access: AccessGate; readonly paths: ParsedPaths },
  request: FastifyRequest,
  active: ActiveRequest,
): boolean {
  const { method, headers, originalUrl, ip: client, raw } = request;
  const peer = admitSender(access, request);
  if (peer !== undefined) active.answerReplica(PROOF_HEADER, peer.proof);
  checkExpectation(raw);
  if (method !== 'GET' && method !== 'HEAD' && method !== 'OPTIONS')
    throw new SpandrelError('UNSUPPORTED', 'the proxy is read-only: push to the upstream registry');
  const target = parseRequestTarget(originalUrl);
  const host = readHost(raw, target);
  access.admitPage({ method, headers, host }, client);
  if (method === 'OPTIONS' && target.path === '*') return false;
  const path = paths.get(raw) ?? parseRegistryPath(target.path);
  active.notes.path = path;
  if (method === 'OPTIONS') return false;
  const isFromReplica = peer !== undefined;
  // The front page shows a replica that another one can be reached.
  if (isFromReplica && ((path.route !== 'blob' && path.route !== 'root') || method !== 'GET'))
    throw new SpandrelError('DENIED', 'replicas request nothing but blobs from each other');
  const query = new URLSearchParams(target.query);
  const namespace = path.route === 'root' ? undefined : parseNamespace(query);
  const url = target.query === '' ? target.path : `${target.path}?${target.query}`;
  const connection = connectionNumber(raw);
  const { signal } = active;
  active.admit({
    method,
    path,
    query,
    namespace,
    headers,
    host,
    isFromReplica,
    client,
    connection,
    url,
    signal,
  });
  return true;
}
