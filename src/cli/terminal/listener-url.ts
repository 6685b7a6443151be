import type { Config } from '../../config/config-keys.ts';

/** Address of a listener for clients on its machine. A listener on all addresses is reached by loopback. */
export function listenerUrl({ host, port, tls }: Pick<Config['listen'], 'host' | 'port' | 'tls'>): string {
  const reachable = host === '0.0.0.0' || host === '::' ? '127.0.0.1' : host;
  const hostname = reachable.includes(':') ? `[${reachable}]` : reachable;
  return `${tls.cert === undefined ? 'http' : 'https'}://${hostname}:${port}`;
}
