import type { FastifyInstance } from 'fastify';

import type { Events } from '../../telemetry/events.ts';
import { ADMIN_PAGE, frontPageResponse } from '../responses/front-page.ts';
import { ADMIN_API } from './admin-api.ts';
import type { ReadinessChecks } from './readiness.ts';

export interface HealthRoutesDeps {
  readonly readiness: ReadinessChecks;
  readonly events: Events;
}

/** Fastify plugin: health, readiness, metrics and the front page of the admin listener. */
export async function healthRoutes(
  server: FastifyInstance,
  { readiness, events }: HealthRoutesDeps,
): Promise<void> {
  server.route({
    ...ADMIN_API.frontPage,
    handler: async (request, reply) => {
      const { status, headers, body } = frontPageResponse(ADMIN_PAGE, request.headers);
      return reply.code(status).headers(headers).send(body);
    },
  });

  server.route({ ...ADMIN_API.health, handler: async () => ({ status: 'ok' }) });

  server.route({
    ...ADMIN_API.readiness,
    handler: async (_request, reply) => {
      const checked = await readiness.run();
      return reply.code(checked.status === 'ready' ? 200 : 503).send(checked);
    },
  });

  server.route({
    ...ADMIN_API.metrics,
    handler: async (_request, reply) => {
      const { contentType, text } = await events.printMetrics();
      return reply.header('content-type', contentType).send(text);
    },
  });
}
