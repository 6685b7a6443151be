import type { FastifyInstance } from 'fastify';

import type { Catalog } from '../../images/operations/catalog.ts';
import type { RegistryClient } from '../../upstream/registry-client.ts';
import type { Upstreams } from '../../upstream/upstreams.ts';
import type { AccessRequest } from '../access/access-check.ts';
import type { AccessGate } from '../access/access-gate.ts';
import { parseCount } from '../requests/parse-count.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { frontPageResponse, REGISTRY_PAGE } from '../responses/front-page.ts';
import { nextPageLink } from '../responses/next-page-link.ts';
import { jsonResponse, type RegistryResponse } from '../responses/registry-response.ts';
import { addRoute } from './add-route.ts';

export interface BaseRoutesDeps {
  readonly upstreams: Upstreams;
  readonly access: AccessGate;
  readonly catalog: Catalog;
}

/** Each repository of a page may cost a request to an upstream: may the client read it? */
const MAX_CATALOG_PAGE = 100;

/** Fastify plugin: the routes of the registry listener that are not below a repository. */
export async function baseRoutes(
  server: FastifyInstance,
  { upstreams, access, catalog }: BaseRoutesDeps,
): Promise<void> {
  addRoute(server, 'root', ({ headers }) => frontPageResponse(REGISTRY_PAGE, headers));

  addRoute(server, 'base', async (context) => {
    const selected = upstreams.selectClient(context);
    const refusal = await refuse(context, selected);
    // Tells `spandrel doctor` which upstream a name or the default is.
    const namespace = selected === undefined ? {} : { 'oci-namespace': selected.host };
    const headers = { 'docker-distribution-api-version': 'registry/2.0', ...namespace };
    return refusal ?? jsonResponse({}, { headers });
  });

  /**
   * Docker Registry HTTP API V2, "Catalog". A page may be shorter than requested and still have a next one.
   */
  addRoute(server, 'catalog', async (context) => {
    const { query, namespace } = context;
    const selected = upstreams.selectClient(context);
    const refusal = await refuse(context, selected);
    if (refusal !== undefined) return refusal;
    const limit = parseCount(query, 'n', MAX_CATALOG_PAGE) ?? MAX_CATALOG_PAGE;
    const page = { after: query.get('last') ?? '', limit };
    const isAlone = namespace !== undefined;
    const { repositories, next } = await catalog.list({ selected, isAlone }, page, async (listed) => {
      const path = { route: 'tags', name: listed.name } as const;
      return (await check(context, { path, target: listed })) === undefined;
    });
    const headers = next === undefined ? {} : nextPageLink(context, { n: String(limit), last: next });
    return jsonResponse({ repositories }, { headers });
  });

  function refuse(
    context: RequestContext,
    client: RegistryClient | undefined,
  ): Promise<RegistryResponse | undefined> {
    return check(context, { path: context.path, target: client && { client, repository: '' } });
  }

  function check(
    { headers, client, signal }: RequestContext,
    subject: Pick<AccessRequest, 'path' | 'target'>,
  ): Promise<RegistryResponse | undefined> {
    return access.check({ authorization: headers.authorization, client, signal, ...subject });
  }
}
