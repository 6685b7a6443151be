import type { UpstreamConfig } from '../config/upstream-config.ts';
import { SpandrelError } from '../core/errors.ts';
import { parseRepository } from '../core/image-reference.ts';
import { isDockerHub } from './credentials/is-docker-hub.ts';
import { RegistryClient, type RegistryClientDeps } from './registry-client.ts';
import type { Target } from './target.ts';
import { TlsFiles } from './transport/tls-files.ts';

/** Parts of a request that may select the upstream. */
export interface UpstreamChoice {
  /** `?ns=`: the registry that the client addresses. */
  readonly namespace?: string | undefined;
  /** Host header, its port included. */
  readonly host?: string | undefined;
}

interface Entry {
  readonly config: UpstreamConfig;
  readonly client: RegistryClient;
}

/** The configured upstreams and their clients. The proxy contacts no other registry. */
export class Upstreams implements AsyncDisposable {
  readonly #entries: readonly Entry[];

  constructor(entries: readonly Entry[]) {
    this.#entries = entries;
  }

  get clients(): readonly RegistryClient[] {
    return this.#entries.map(({ client }) => client);
  }

  /**
   * Selects the upstream and repository of a request: by `ns`, else by the first segment of the name, which
   * is removed, else by the Host header (one of `hostnames`, or the upstream's own name if DNS leads its
   * clients here), else the default upstream. A name that begins with the address and `repositoryPrefix` of
   * an upstream, as its events have it, belongs to that upstream.
   * @throws SpandrelError DENIED for an `ns` that is not configured; NAME_UNKNOWN if nothing selects an
   * upstream; NAME_INVALID
   */
  select({ name, namespace, host }: UpstreamChoice & { readonly name: string }): Target {
    if (namespace !== undefined) return repositoryOf(this.#byNamespace(namespace), name);
    const slash = name.indexOf('/');
    const prefix = slash < 0 ? undefined : name.slice(0, slash);
    const prefixed = this.#entries.find(({ config }) => prefix !== undefined && isNamed(config, prefix));
    if (prefixed !== undefined) return repositoryOf(prefixed, name.slice(slash + 1));
    const own = prefix === undefined ? undefined : this.#byAddress(prefix, name.slice(slash + 1));
    if (own !== undefined) return own;
    const chosen = this.#byHost(host);
    if (chosen !== undefined) return repositoryOf(chosen, name);
    const names = this.#entries.map(({ config }) => config.name).join(', ');
    throw new SpandrelError(
      'NAME_UNKNOWN',
      `no upstream for this name: begin it with the name of an upstream (${names}), or configure a default`,
    );
  }

  /**
   * Selects the upstream of a request without a repository: by `ns`, Host header, default, or because there
   * is only one.
   * @throws SpandrelError DENIED for an `ns` that is not configured
   */
  selectClient({ namespace, host }: UpstreamChoice): RegistryClient | undefined {
    if (namespace !== undefined) return this.#byNamespace(namespace).client;
    return (this.#byHost(host) ?? (this.#entries.length === 1 ? this.#entries[0] : undefined))?.client;
  }

  #byNamespace(namespace: string): Entry {
    const named = this.#entries.find(({ config }) => isNamed(config, namespace));
    if (named === undefined)
      throw new SpandrelError('DENIED', 'the registry in `ns` is not an upstream of this proxy');
    return named;
  }

  /** By the repository's name at the registry; the longest prefix wins. */
  #byAddress(address: string, repository: string): Target | undefined {
    const found = this.#entries
      .filter(({ config }) => config.repositoryPrefix !== undefined && new URL(config.url).host === address)
      .map((entry) => ({ entry, start: `${entry.config.repositoryPrefix ?? ''}/` }))
      .filter(({ start }) => repository.startsWith(start))
      .toSorted((a, b) => b.start.length - a.start.length);
    const [best] = found;
    return best && repositoryOf(best.entry, repository.slice(best.start.length));
  }

  #byHost(host: string | undefined): Entry | undefined {
    return (
      this.#entries.find(({ config }) => host !== undefined && isReachedAs(config, host)) ??
      this.#entries.find(({ config }) => config.default)
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.clients.map((client) => client[Symbol.asyncDispose]()));
  }
}

export interface CreateUpstreamsDeps extends Omit<RegistryClientDeps, 'config' | 'tls'> {
  readonly upstreams: readonly UpstreamConfig[];
}

/**
 * Creates the clients of all upstreams. Sends no request yet. @throws SpandrelError CONFIG_INVALID if a TLS
 * file cannot be read
 */
export async function createUpstreams({ upstreams, ...shared }: CreateUpstreamsDeps): Promise<Upstreams> {
  const entries: Entry[] = [];
  for (const config of upstreams) {
    const { ca, cert, key } = config;
    const onKept = (error: unknown): void =>
      shared.logger.warn(
        { upstream: config.name, err: error },
        'the TLS files are not usable: the previous ones stay in use',
      );
    const tls = new TlsFiles(config.name, { ca, cert, key }, onKept);
    await tls.read();
    entries.push({ config, client: new RegistryClient({ config, tls, ...shared }) });
  }
  return new Upstreams(entries);
}

function isNamed(config: UpstreamConfig, text: string): boolean {
  const wanted = text.toLowerCase();
  return (
    config.name === wanted ||
    config.host.toLowerCase() === wanted ||
    (isDockerHub(config.host) && isDockerHub(wanted))
  );
}

function isReachedAs(config: UpstreamConfig, host: string): boolean {
  const wanted = host.toLowerCase();
  const hostname = wanted.replace(/:\d+$/, '');
  return (
    config.hostnames.some((listed) => listed.toLowerCase() === hostname) ||
    config.host.toLowerCase() === wanted ||
    (isDockerHub(config.host) && isDockerHub(wanted))
  );
}

function repositoryOf({ client }: Entry, repository: string): Target {
  return { client, repository: client.repositoryName(parseRepository(repository)) };
}
