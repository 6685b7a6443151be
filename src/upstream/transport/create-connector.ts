import { Socket } from 'node:net';

import { buildConnector } from 'undici';

import type { AddressGuard } from '../address-guard.ts';
import type { ProxyChoice } from './proxy-choice.ts';
import { openTunnel, type TunnelOptions } from './open-tunnel.ts';
import { mendResponseHeads } from './mend-response-heads.ts';
import type { TlsFiles, TlsMaterial } from './tls-files.ts';

export interface ConnectionOptions {
  /** URL of the upstream itself. */
  readonly base: URL;
  readonly tls: TlsFiles;
  readonly guard: AddressGuard;
  readonly chooseProxy: ProxyChoice;
  readonly tunnel: TunnelOptions;
  readonly connectTimeoutMs: number;
  /** Aborts connections that are being opened. Open ones belong to the caller. */
  readonly signal: AbortSignal;
}

type Connector = buildConnector.connector;

interface Connectors {
  /** To the upstream itself. */
  readonly own: Connector;
  /** To hosts that the upstream leads to. */
  readonly other: Connector;
}

/**
 * Opens connections for one upstream: to allowed addresses only, with its certificate authorities, with its
 * client certificate if they lead to the upstream itself, and for https through the tunnel of its outbound
 * proxy.
 */
export function createConnector(options: ConnectionOptions): Connector {
  const { base, tls, guard, chooseProxy, tunnel } = options;
  const connectorsFor = rememberLast((material): Connectors => {
    const shared = { ...connectorOptions(material, options), lookup: guard.lookup };
    const other = buildConnector(shared);
    const own = material.client === undefined ? other : buildConnector({ ...shared, ...material.client });
    return { own, other };
  });
  return connectBy(options.signal, async (asked) => {
    const url = new URL(`${asked.protocol}//${asked.host ?? asked.hostname}`);
    guard.checkHost(url.hostname);
    const { own, other } = connectorsFor(await tls.read());
    const connector = url.host === base.host ? own : other;
    const proxy = url.protocol === 'https:' ? chooseProxy(url) : undefined;
    if (proxy === undefined) return { connector, asked };
    guard.checkName(url.hostname);
    const httpSocket = (await openTunnel(proxy, `${url.hostname}:${url.port || '443'}`, tunnel)) as Socket;
    return { connector, asked: { ...asked, httpSocket } };
  });
}

/** Opens connections to outbound proxies. The operator configures them, so any address is allowed. */
export function createProxyConnector(
  options: Pick<ConnectionOptions, 'tls' | 'connectTimeoutMs' | 'signal'>,
): Connector {
  const connectorFor = rememberLast((material) => buildConnector(connectorOptions(material, options)));
  return connectBy(options.signal, async (asked) => ({
    connector: connectorFor(await options.tls.read()),
    asked,
  }));
}

function connectorOptions(
  { ca }: TlsMaterial,
  { connectTimeoutMs: timeout }: Pick<ConnectionOptions, 'connectTimeoutMs'>,
): buildConnector.BuildOptions {
  // No HTTP/2: it would use one connection, and parallel ranges of a blob are faster over several.
  return { timeout, allowH2: false, ...(ca === undefined ? {} : { ca }) };
}

/** Caches the result of `make` for the last TLS material. */
function rememberLast<T>(make: (material: TlsMaterial) => T): (material: TlsMaterial) => T {
  let made: { readonly material: TlsMaterial; readonly value: T } | undefined;
  return (material) => {
    if (made?.material !== material) made = { material, value: make(material) };
    return made.value;
  };
}

/**
 * Opens connections with the connector that `choose` returns. The signal is not passed to the sockets: for
 * each, Node would add a listener that stays, with the socket, while the signal is in use (`net.connect`,
 * `addClientAbortSignalOption`).
 */
function connectBy(
  signal: AbortSignal,
  choose: (
    asked: buildConnector.Options,
  ) => Promise<{ readonly connector: Connector; readonly asked: buildConnector.Options }>,
): Connector {
  const connect = async (
    options: buildConnector.Options,
    callback: buildConnector.Callback,
  ): Promise<void> => {
    let chosen: Awaited<ReturnType<typeof choose>>;
    try {
      chosen = await choose(options);
      signal.throwIfAborted();
    } catch (error) {
      callback(error as Error, null);
      return;
    }
    // The socket; undici's types do not expose it.
    const opening: unknown = chosen.connector(chosen.asked, (...outcome) => {
      signal.removeEventListener('abort', onAbort);
      const [error, socket] = outcome;
      if (error === null) mendResponseHeads(socket);
      callback(...outcome);
    });
    const onAbort = (): void => {
      if (opening instanceof Socket) opening.destroy(signal.reason as Error);
    };
    signal.addEventListener('abort', onAbort, { once: true });
  };
  return (options, callback) => void connect(options, callback);
}
