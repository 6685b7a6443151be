import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';

import { type Target, targetKey } from '../../upstream/target.ts';
import type { RegistryPath, RepositoryPath, RouteName } from '../requests/registry-path.ts';
import type { RequestContext } from '../requests/request-context.ts';
import type { RegistryResponse } from '../responses/registry-response.ts';
import type { ActiveRequest } from './active-request.ts';

type PathOf<Route extends RouteName> = Extract<RegistryPath, { readonly route: Route }>;

/** Name of the decorator that holds the {@link ActiveRequest}. */
export const ACTIVE_REQUEST = 'activeRequest';

/**
 * The URL by which fastify knows a route; requests are rewritten to it. Patterns of fastify's router cannot
 * match the real ones: a repository name has any number of segments, and parameters come decoded, so that
 * `%2F` looks like `/`.
 */
export function routeUrl(route: RouteName): string {
  return `/${route}`;
}

/** Add a route for GET and HEAD. */
export function addRoute<Route extends RouteName>(
  server: FastifyInstance,
  route: Route,
  handle: (context: RequestContext, path: PathOf<Route>) => RegistryResponse | Promise<RegistryResponse>,
): void {
  addHandler(server, route, async (active, path, reply) =>
    active.send(reply, await handle(active.context, path)),
  );
}

/** As {@link addRoute}, in a plugin whose hook selects the repository. */
export function addRepositoryRoute<Route extends RepositoryPath['route']>(
  server: FastifyInstance,
  route: Route,
  handle: (context: RequestContext, target: Target, path: PathOf<Route>) => Promise<RegistryResponse>,
): void {
  addHandler(server, route, (active, path, reply) => {
    const { context, target } = active;
    return active.respond(reply, targetKey(target), async () =>
      withNamespace(await handle(context, target, path), context.namespace),
    );
  });
}

function addHandler<Route extends RouteName>(
  server: FastifyInstance,
  route: Route,
  handle: (active: ActiveRequest, path: PathOf<Route>, reply: FastifyReply) => Promise<void>,
): void {
  server.route({
    method: ['GET', 'HEAD'],
    url: routeUrl(route),
    handler: (request, reply) => {
      const active = activeRequest(request);
      // The path is of this route: the request was rewritten to it for that.
      return handle(active, active.context.path as PathOf<Route>, reply);
    },
  });
}

/** A registry that honours `ns` names it: distribution spec, "Registry proxying". */
function withNamespace(response: RegistryResponse, namespace: string | undefined): RegistryResponse {
  if (namespace === undefined) return response;
  return { ...response, headers: { ...response.headers, 'oci-namespace': namespace } };
}

export function activeRequest(request: FastifyRequest): ActiveRequest {
  return request.getDecorator<ActiveRequest>(ACTIVE_REQUEST);
}
