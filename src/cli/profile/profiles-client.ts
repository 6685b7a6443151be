import type { ProfileDescription } from '../../boot/profiles/describe-profile.ts';
import { askProxy } from '../../client/ask-proxy.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { ReachedListener } from '../terminal/reach-listener.ts';

export type RepositoryProfileJson = ProfileDescription & { readonly repository: string };

interface Page {
  readonly profiles: readonly RepositoryProfileJson[];
  readonly next?: string;
}

/** The profiles of a running proxy. All methods throw as {@link askProxy}. */
export class ProfilesClient {
  readonly #send: ReachedListener['send'];
  readonly #url: string;
  readonly #headers: Readonly<Record<string, string>>;

  constructor({ url, send }: ReachedListener, token: string | undefined) {
    this.#url = new URL('api/v1/profiles', url.href.replace(/\/*$/, '/')).href;
    this.#send = send;
    this.#headers = token === undefined ? {} : { authorization: `Bearer ${token}` };
  }

  /** @param repository `upstream/repository` @throws SpandrelError PROFILE_UNKNOWN */
  async read(repository: string): Promise<RepositoryProfileJson> {
    const [found] = (await this.#page({ repository })).profiles;
    if (found === undefined) throw new SpandrelError('PROFILE_UNKNOWN', `${repository} has no profile`);
    return found;
  }

  async readAll(): Promise<RepositoryProfileJson[]> {
    const all: RepositoryProfileJson[] = [];
    for (let page = await this.#page({}); ; page = await this.#page({ after: page.next ?? '' })) {
      all.push(...page.profiles);
      if (page.next === undefined) return all;
    }
  }

  /** @param profile as it was exported; the proxy checks it */
  async replace(profile: object): Promise<void> {
    const headers = { ...this.#headers, 'content-type': 'application/json' };
    const body = JSON.stringify({ profiles: [profile] });
    await (await askProxy(this.#url, { method: 'PUT', headers, body }, this.#send)).arrayBuffer();
  }

  async #page(query: Readonly<Record<string, string>>): Promise<Page> {
    const url = `${this.#url}?${new URLSearchParams(query).toString()}`;
    return (await (await askProxy(url, { headers: this.#headers }, this.#send)).json()) as Page;
  }
}
