import type { Duplex } from 'node:stream';

import type { Dispatcher } from 'undici';

import type { OutboundProxy } from '../../config/outbound-proxy.ts';
import { SpandrelError } from '../../core/errors.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';

export interface TunnelOptions {
  readonly upstream: string;
  /** Connects to proxies. */
  readonly dispatcher: Dispatcher;
  readonly timeoutMs: number;
}

/**
 * A connection to `host:port` through a proxy, for TLS: RFC 9110, section 9.3.6.
 * @throws SpandrelError UPSTREAM_PROXY_REFUSED, UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT; the errors of the HTTP client if the proxy
 * itself cannot be reached
 */
export async function openTunnel(
  proxy: OutboundProxy,
  authority: string,
  { upstream, dispatcher, timeoutMs }: TunnelOptions,
): Promise<Duplex> {
  using limit = new TimeLimit(timeoutMs);
  let answer: Dispatcher.ConnectData;
  try {
    const headers = { host: authority, ...proxyHeaders(proxy) };
    answer = await dispatcher.connect({
      origin: proxy.origin,
      path: authority,
      headers,
      signal: limit.signal,
    });
  } catch (error) {
    if (!limit.isOver) throw error;
    throw new SpandrelError(
      'UPSTREAM_TIMEOUT',
      `upstream ${upstream}: its outbound proxy does not answer in time`,
    );
  }
  const { statusCode, socket } = answer;
  if (statusCode >= 200 && statusCode < 300) return socket;
  socket.on('error', () => undefined).destroy();
  throw explainRefusal(upstream, statusCode);
}

/** What a proxy wants of each request that is for itself. */
export function proxyHeaders({ authorization }: OutboundProxy): Record<string, string> {
  return authorization === undefined ? {} : { 'proxy-authorization': authorization.reveal() };
}

/** A proxy that cannot reach the host answers 5xx; any other status is the proxy's own will. */
export function explainRefusal(upstream: string, status: number): SpandrelError {
  const detail = { upstream, status };
  if (status >= 500) {
    const words = `upstream ${upstream}: its outbound proxy cannot reach it (${status})`;
    return new SpandrelError('UPSTREAM_UNREACHABLE', words, { detail });
  }
  const reason = status === 407 ? 'it wants (other) credentials, 407' : String(status);
  const words = `upstream ${upstream}: its outbound proxy refuses the connection (${reason})`;
  return new SpandrelError('UPSTREAM_PROXY_REFUSED', words, { detail });
}
