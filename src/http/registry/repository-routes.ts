import type { FastifyInstance } from 'fastify';

import type { Upstreams } from '../../upstream/upstreams.ts';
import type { AccessGate } from '../access/access-gate.ts';
import type { RepositoryPath } from '../requests/registry-path.ts';
import { activeRequest } from './add-route.ts';
import { distributionRoutes, type DistributionRoutesDeps } from './distribution-routes.ts';
import { imageRoutes, type ImageRoutesDeps } from './image-routes.ts';
import { spanRoutes, type SpanRoutesDeps } from './span-routes.ts';

export interface RepositoryRoutesDeps extends DistributionRoutesDeps, SpanRoutesDeps, ImageRoutesDeps {
  readonly upstreams: Upstreams;
  readonly access: AccessGate;
}

/**
 * Fastify plugin: all routes below a repository. A hook selects the upstream and checks access before them.
 */
export async function repositoryRoutes(server: FastifyInstance, deps: RepositoryRoutesDeps): Promise<void> {
  server.addHook('preHandler', async (request, reply) => {
    const active = activeRequest(request);
    const { headers, client, signal, namespace, host } = active.context;
    // All routes of this plugin have such a path.
    const path = active.context.path as RepositoryPath;
    const target = deps.upstreams.select({ namespace, host, name: path.name });
    active.notes.target = target;
    if (active.context.isFromReplica) return;
    const { authorization } = headers;
    const refusal = await deps.access.check({ authorization, client, path, target, signal });
    if (refusal !== undefined) await active.send(reply, refusal);
  });
  server.register(distributionRoutes, deps);
  server.register(spanRoutes, deps);
  server.register(imageRoutes, deps);
}
