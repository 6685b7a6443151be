import type { IncomingHttpHeaders } from 'node:http';

const MAX_LENGTH = 64;

/**
 * The client that a balancer names in X-Forwarded-For, or in Forwarded (RFC 7239); `undefined` if none does.
 * Anybody can send these headers: use it to tell clients apart in statistics only.
 */
export function readForwardedClient(headers: IncomingHttpHeaders): string | undefined {
  const [first = ''] = String(headers['x-forwarded-for'] ?? '').split(',');
  const [, named = ''] = /(?:^|[;,\s])for="?([^";,\s]+)/i.exec(headers['forwarded'] ?? '') ?? [];
  const client = first.trim() === '' ? named : first.trim();
  return client === '' ? undefined : client.slice(0, MAX_LENGTH);
}
