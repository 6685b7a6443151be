import { type FastifyInstance, fastify, LogController } from 'fastify';

import type { BlobStore } from '../../blobs/blob-store.ts';
import { parseDigest } from '../../core/digest.ts';
import { errorCodeOf, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import { parseEcrPush } from '../../images/operations/parse-ecr-push.ts';
import type { ServedImages } from '../../images/manifests/served-images.ts';
import type { WarmJobs } from '../../images/operations/warm-jobs.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { AdminGuard } from '../access/admin-guard.ts';
import { COMMON_HEADERS } from '../responses/registry-response.ts';
import { errorResponse } from '../responses/error-response.ts';
import { ADMIN_PAGE, frontPageResponse } from '../responses/front-page.ts';
import { AllowedMethods, WHOLE_SERVER } from '../listener/allowed-methods.ts';
import { Closing } from '../listener/closing.ts';
import type { ServerLimits } from '../listener/create-node-server.ts';
import { checkExpectation } from '../listener/check-expectation.ts';
import { serverOptions } from '../listener/server-options.ts';
import type { TlsMaterial } from '../listener/tls-material.ts';
import type { ReadinessChecks } from './readiness.ts';
import { readHost } from '../requests/read-host.ts';
import { parseRequestTarget } from '../requests/request-target.ts';
import { parseWarmRequest } from './parse-warm-request.ts';

export interface AdminServerDeps {
  readonly blobs: BlobStore;
  readonly readiness: ReadinessChecks;
  readonly warmJobs: WarmJobs;
  readonly servedImages: ServedImages;
  readonly guard: AdminGuard;
  readonly tls: TlsMaterial | undefined;
  readonly limits: ServerLimits;
  readonly events: Events;
  readonly logger: Logger;
}

/** A blob that has just been pulled is read once more for its index. */
const MAX_DELETE_WAIT_MS = 5_000;

/** Health, metrics and store administration, on a listener of its own that clients of the registry need not reach. */
export function createAdminServer(deps: AdminServerDeps): FastifyInstance {
  const server = fastify({
    loggerInstance: deps.logger,
    logController: new LogController({ disableRequestLogging: true }),
    // Routes, and who may use them, go by the path of an absolute target too.
    rewriteUrl: ({ url = '' }) => originForm(url),
    ...serverOptions(deps),
  });
  const allowed = new AllowedMethods(server as unknown as FastifyInstance);
  const closing = new Closing();
  closing.watch(server as unknown as FastifyInstance);

  // Bodies are JSON. A form can send other types, so none of those is read.
  server.removeContentTypeParser('text/plain');

  server.addHook('onRequest', async ({ raw, method, headers, url, originalUrl, ip }, reply) => {
    reply.headers(COMMON_HEADERS);
    closing.admit();
    deps.guard.admit({
      method,
      path: url.replace(/\?.*$/s, ''),
      headers,
      host: readHost(raw, parseRequestTarget(originalUrl)),
      address: ip,
      hasCertificate: 'authorized' in raw.socket && raw.socket.authorized === true,
    });
    checkExpectation(raw);
  });
  server.get('/', async ({ headers: asked }, reply) => {
    const { status, headers, body } = frontPageResponse(ADMIN_PAGE, asked);
    return reply.code(status).headers(headers).send(body);
  });
  server.get('/healthz', () => ({ status: 'ok' }));
  server.get('/readyz', async (_request, reply) => {
    const readiness = await deps.readiness.run();
    return reply.code(readiness.status === 'ready' ? 200 : 503).send(readiness);
  });
  server.get('/metrics', async (_request, reply) => {
    const { contentType, text } = await deps.events.printMetrics();
    return reply.header('content-type', contentType).send(text);
  });
  server.get('/api/v1/blobs', () => {
    const { scrub } = deps.blobs;
    return { usage: deps.blobs.usage(), ...(scrub && { scrub }), blobs: [...deps.blobs.list()] };
  });
  server.delete<{ Params: { digest: string } }>('/api/v1/blobs/:digest', async (request, reply) => {
    const digest = parseDigest(request.params.digest);
    // A connection on which nothing moves for `stallTimeoutMs` is closed, so the response must come before that.
    const waitMs = Math.min(MAX_DELETE_WAIT_MS, Math.floor(deps.limits.stallTimeoutMs / 2));
    using limit = new TimeLimit(waitMs);
    if (!(await deps.blobs.deleteBlob(digest, limit.signal)))
      throw new SpandrelError('BLOB_UNKNOWN', 'the store has no such blob');
    return reply.code(204).send();
  });

  server.post<{ Body: unknown }>('/api/v1/warm', async (request, reply) => {
    const { image, platforms } = parseWarmRequest(request.body);
    return reply.code(202).send(await deps.warmJobs.start(image, platforms));
  });
  server.get('/api/v1/images', () => ({ images: deps.servedImages.list() }));
  server.get('/api/v1/jobs', async () => ({ jobs: await deps.warmJobs.list() }));
  server.get<{ Params: { id: string } }>('/api/v1/jobs/:id', async (request) => {
    const job = await deps.warmJobs.get(request.params.id);
    if (job === undefined) throw new SpandrelError('JOB_UNKNOWN', 'there is no such job, or no longer');
    return job;
  });
  server.post<{ Body: unknown }>('/api/v1/events/ecr', async (request, reply) => {
    const image = parseEcrPush(request.body);
    if (image === undefined) return reply.code(202).send({ ignored: 'no image has been pushed' });
    return reply.code(202).send(await deps.warmJobs.start(image));
  });

  server.setNotFoundHandler((request, reply) => {
    const path = request.url.replace(/\?.*$/s, '');
    const allow = allowed.of(path);
    if (allow === undefined)
      throw new SpandrelError('ROUTE_UNKNOWN', `no such route: ${request.method} ${path.slice(0, 300)}`);
    if (request.method === 'OPTIONS') return reply.code(204).header('allow', allow).send();
    reply.header('allow', allow);
    throw new SpandrelError('UNSUPPORTED', `this route has no ${request.method}, only ${allow}`);
  });
  server.setErrorHandler((error, request, reply) => {
    if (errorCodeOf(error) === 'INTERNAL' && !isClientError(error))
      deps.logger.error({ requestId: request.id, err: error }, 'defect');
    const { status, headers, body } = errorResponse(
      isClientError(error) ? new SpandrelError('QUERY_INVALID', error.message) : error,
    );
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
  return server as unknown as FastifyInstance;
}

/** The path and query of a request target, for the router; what is no target becomes a path that is no route. */
function originForm(text: string): string {
  try {
    const { path, query } = parseRequestTarget(text);
    return path === '*' ? WHOLE_SERVER : `${path}${query === '' ? '' : `?${query}`}`;
  } catch (error) {
    if (!isSpandrelError(error)) throw error;
    return `/${encodeURIComponent(text)}`;
  }
}

/** Fastify's own word for a body that it cannot read. */
function isClientError(error: unknown): error is Error {
  if (isSpandrelError(error) || !(error instanceof Error) || !('statusCode' in error)) return false;
  return typeof error.statusCode === 'number' && error.statusCode >= 400 && error.statusCode < 500;
}
