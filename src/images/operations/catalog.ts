import type { RegistryClient } from '../../upstream/registry-client.ts';
import type { Target } from '../../upstream/target.ts';
import type { Upstreams } from '../../upstream/upstreams.ts';
import type { ServedRepositories } from './served-repositories.ts';

/** A repository, and the name by which the client would request it. */
export interface ListedRepository extends Target {
  readonly name: string;
}

export interface CatalogPage {
  readonly repositories: readonly string[];
  /** The `after` of the next page, if there is one. */
  readonly next?: string | undefined;
}

/** Repositories of a page whose access is checked at the same time. */
const CHECKS_AT_ONCE = 8;

/** Lists the repositories that the proxy has served. */
export class Catalog {
  readonly #upstreams: Pick<Upstreams, 'clients'>;
  readonly #served: ServedRepositories;

  constructor(upstreams: Pick<Upstreams, 'clients'>, served: ServedRepositories) {
    this.#upstreams = upstreams;
    this.#served = served;
  }

  /**
   * One page in the order of names: repositories of the selected upstream by their own names, and, unless it
   * is alone, those of the others below the upstream's name. A page has only what the client may read, so it
   * may be shorter than `limit`, or empty, and have a next one.
   */
  async list(
    { selected, isAlone }: { readonly selected: RegistryClient | undefined; readonly isAlone: boolean },
    { after: last, limit }: { readonly after: string; readonly limit: number },
    mayRead: (repository: ListedRepository) => Promise<boolean>,
  ): Promise<CatalogPage> {
    const clients = this.#upstreams.clients.filter((client) => !isAlone || client === selected);
    const found = clients.flatMap((client): ListedRepository[] => {
      const prefix = client === selected ? '' : `${client.name}/`;
      const after = last.startsWith(prefix) ? last.slice(prefix.length) : last < prefix ? '' : undefined;
      if (after === undefined) return [];
      // One more than fits shows that there is a next page.
      const repositories = this.#served.list(client, { after, limit: limit + 1 });
      return repositories.map((repository) => ({ name: prefix + repository, client, repository }));
    });
    const sorted = found.toSorted((a, b) => (a.name < b.name ? -1 : 1));
    const page = sorted.slice(0, limit);
    const repositories: string[] = [];
    for (let start = 0; start < page.length; start += CHECKS_AT_ONCE) {
      const some = page.slice(start, start + CHECKS_AT_ONCE);
      const verdicts = await Promise.all(some.map(mayRead));
      repositories.push(...some.filter((_, place) => verdicts[place] === true).map(({ name }) => name));
    }
    return { repositories, next: sorted.length > page.length ? page.at(-1)?.name : undefined };
  }
}
