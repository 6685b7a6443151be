import type { Duplex } from 'node:stream';

import type { Dispatcher } from 'undici';

import type { OutboundProxy } from '../../config/outbound-proxy.ts';
import { SpandrelError } from '../../core/errors.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';

export interface TunnelOptions {
  readonly upstream: string;
  /** Agent for connections to outbound proxies. */
  readonly dispatcher: Dispatcher;
  readonly timeoutMs: number;
}

/**
 * Opens a connection to `authority` (`host:port`) through a proxy, for TLS: RFC 9110, section 9.3.6.
 * @throws SpandrelError UPSTREAM_PROXY_REFUSED, UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT; the errors of undici
 * if the proxy itself is unreachable
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
      `upstream ${upstream}: its outbound proxy does not respond in time`,
    );
  }
  const { statusCode, socket } = answer;
  if (statusCode >= 200 && statusCode < 300) return socket;
  socket.on('error', () => undefined).destroy();
  throw explainRefusal(upstream, statusCode);
}

/** Headers of requests to the proxy itself. */
export function proxyHeaders({ authorization }: OutboundProxy): Record<string, string> {
  return authorization === undefined ? {} : { 'proxy-authorization': authorization.reveal() };
}

/**
 * The error for a CONNECT that failed. 5xx means that the proxy cannot reach the host; any other status is a
 * refusal.
 */
export function explainRefusal(upstream: string, status: number): SpandrelError {
  const detail = { upstream, status };
  if (status >= 500) {
    const words = `upstream ${upstream}: its outbound proxy cannot reach it (${status})`;
    return new SpandrelError('UPSTREAM_UNREACHABLE', words, { detail });
  }
  const reason = status === 407 ? 'it requires (other) credentials, 407' : String(status);
  const words = `upstream ${upstream}: its outbound proxy refuses the connection (${reason})`;
  return new SpandrelError('UPSTREAM_PROXY_REFUSED', words, { detail });
}
