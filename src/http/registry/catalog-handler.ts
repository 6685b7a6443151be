import type { IncomingHttpHeaders } from 'node:http';

import type { ServedRepositories } from '../../images/operations/served-repositories.ts';
import type { Upstreams } from '../../upstream/upstreams.ts';
import type { RegistryClient } from '../../upstream/registry-client.ts';
import type { AccessGate } from '../access/access-gate.ts';
import { type RegistryResponse, jsonResponse } from '../responses/registry-response.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { nextPageLink } from '../responses/next-page-link.ts';
import { parseCount } from '../requests/query.ts';

export interface CatalogDeps {
  readonly upstreams: Upstreams;
  readonly access: AccessGate;
  readonly servedRepositories: ServedRepositories;
}

/** Each may cost a question to an upstream, whether the client may read it. */
const MAX_PAGE = 100;
const QUESTIONS_AT_ONCE = 8;

/** A repository, by the name under which this request would ask for it. */
interface Listed {
  readonly name: string;
  readonly client: RegistryClient;
  readonly repository: string;
}

/**
 * The repositories that the proxy has served, of those that the client may read, in the order of their names (Docker Registry HTTP API V2,
 * "Catalog"). Without `ns` those of all upstreams are listed: the chosen one's by their own names, the others' below the upstream's name.
 * A page may be shorter than asked for, or empty, and have a next one.
 */
export async function handleCatalog(
  { upstreams, access, servedRepositories }: CatalogDeps,
  request: Pick<RequestContext, 'query' | 'url' | 'client' | 'signal'> & {
    readonly headers: IncomingHttpHeaders;
  },
  { client: chosen, namespace }: { client: RegistryClient | undefined; namespace: string | undefined },
): Promise<RegistryResponse> {
  const limit = parseCount(request.query, 'n', MAX_PAGE) ?? MAX_PAGE;
  const last = request.query.get('last') ?? '';
  const clients = upstreams.clients.filter((client) => namespace === undefined || client === chosen);
  const found = clients.flatMap((client): Listed[] => {
    const prefix = client === chosen ? '' : `${client.name}/`;
    const after = last.startsWith(prefix) ? last.slice(prefix.length) : last < prefix ? '' : undefined;
    if (after === undefined) return [];
    // One more than fits tells that there is a next page.
    const repositories = servedRepositories.list(client, { after, limit: limit + 1 });
    return repositories.map((repository) => ({ name: prefix + repository, client, repository }));
  });
  const sorted = found.toSorted((a, b) => (a.name < b.name ? -1 : 1));
  const page = sorted.slice(0, limit);
  const { authorization } = request.headers;
  const mayRead = async ({ name, client, repository }: Listed): Promise<boolean> => {
    const path = { route: 'tags', name } as const;
    const refusal = await access.check({
      authorization,
      client: request.client,
      path,
      target: { client, repository },
      signal: request.signal,
    });
    return refusal === undefined;
  };
  const repositories: string[] = [];
  for (let start = 0; start < page.length; start += QUESTIONS_AT_ONCE) {
    const some = page.slice(start, start + QUESTIONS_AT_ONCE);
    const verdicts = await Promise.all(some.map(mayRead));
    repositories.push(...some.filter((_, place) => verdicts[place] === true).map(({ name }) => name));
  }
  const end = page.at(-1)?.name;
  const isMore = end !== undefined && sorted.length > page.length;
  const headers = isMore ? nextPageLink(request, { n: String(limit), last: end }) : {};
  return jsonResponse({ repositories }, { headers });
}
