import type { IncomingMessage } from 'node:http';

import { SpandrelError } from '../../core/errors.ts';
import { isHost, type RequestTarget } from './request-target.ts';

/**
 * The host that a request addresses, with its port: from an absolute target, else from `:authority` of HTTP/2
 * (RFC 9113, section 8.3.1), else from the one Host header that HTTP/1.1 requires (RFC 9112, section 3.2).
 * @throws SpandrelError REQUEST_INVALID
 */
export function readHost(
  { headers, rawHeaders, httpVersion }: Pick<IncomingMessage, 'headers' | 'rawHeaders' | 'httpVersion'>,
  target: Pick<RequestTarget, 'host'>,
): string | undefined {
  const hosts = rawHeaders.filter((name, index) => index % 2 === 0 && name.toLowerCase() === 'host');
  if (hosts.length > 1 || (httpVersion === '1.1' && hosts.length === 0))
    throw new SpandrelError('REQUEST_INVALID', 'a request has one Host header');
  const { host: named, ':authority': authority } = headers;
  const host = target.host ?? (typeof authority === 'string' ? authority : named);
  if (host !== undefined && !isHost(host))
    throw new SpandrelError('REQUEST_INVALID', 'the Host header is no host');
  return host;
}
