import { buildConnector } from 'undici';

import { AddressGuard } from './address-guard.ts';
import type { TlsFiles, TlsMaterial } from './tls-files.ts';

export interface ConnectionOptions {
  /** Name of the upstream. */
  readonly upstream: string;
  /** URL of the upstream itself. */
  readonly base: URL;
  readonly tls: TlsFiles;
  readonly connectTimeoutMs: number;
}

/**
 * Opens the connections of one upstream: to allowed addresses only, with its authorities, and with its client certificate where they
 * lead to the upstream itself.
 */
export function createConnector({
  upstream,
  base,
  tls,
  connectTimeoutMs,
}: ConnectionOptions): buildConnector.connector {
  const guard = new AddressGuard(upstream, base.hostname);
  let made:
    { readonly material: TlsMaterial; readonly own: Connector; readonly other: Connector } | undefined;
  const connectorsFor = (material: TlsMaterial): { own: Connector; other: Connector } => {
    if (made?.material === material) return made;
    const shared = {
      timeout: connectTimeoutMs,
      lookup: guard.lookup,
      // Ranges of a blob are asked for in parallel because several connections are faster than one; HTTP/2 would make them one.
      allowH2: false,
      ...(material.ca === undefined ? {} : { ca: material.ca }),
    };
    const other = buildConnector(shared);
    const own = material.client === undefined ? other : buildConnector({ ...shared, ...material.client });
    made = { material, own, other };
    return made;
  };
  const choose = async ({ hostname, port }: buildConnector.Options): Promise<Connector> => {
    guard.checkHost(hostname);
    const { own, other } = connectorsFor(await tls.read());
    return hostname === base.hostname && (port || '') === base.port ? own : other;
  };
  const connect = async (
    options: buildConnector.Options,
    callback: buildConnector.Callback,
  ): Promise<void> => {
    let connector: Connector;
    try {
      connector = await choose(options);
    } catch (error) {
      callback(error as Error, null);
      return;
    }
    connector(options, callback);
  };
  return (options, callback) => void connect(options, callback);
}

type Connector = buildConnector.connector;
