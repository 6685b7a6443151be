import type { FastifyInstance, FastifyRequest } from 'fastify';

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
 * match the real ones: a repository name has any number of segments, and parameters come decoded, so that `%2F`
 * looks like `/`.
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
  server.route({
    method: ['GET', 'HEAD'],
    url: routeUrl(route),
    handler: async (request, reply) => {
      const active = activeRequest(request);
      const { context } = active;
      // The path is of this route: the request was rewritten to it for that.
      await active.send(reply, await handle(context, context.path as PathOf<Route>));
    },
  });
}

/** As {@link addRoute}, in a plugin whose hook selects the repository. */
export function addRepositoryRoute<Route extends RepositoryPath['route']>(
  server: FastifyInstance,
  route: Route,
  handle: (context: RequestContext, target: Target, path: PathOf<Route>) => Promise<RegistryResponse>,
): void {
  server.route({
    method: ['GET', 'HEAD'],
    url: routeUrl(route),
    handler: async (request, reply) => {
      const active = activeRequest(request);
      const { context, target } = active;
      await active.respond(reply, targetKey(target), async () =>
        withNamespace(await handle(context, target, context.path as PathOf<Route>), context.namespace),
      );
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
