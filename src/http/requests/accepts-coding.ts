import type { IncomingHttpHeaders } from 'node:http';

import Negotiator from 'negotiator';

import type { RequestContext } from './request-context.ts';

/**
 * Whether a client wants a blob from its first byte to its end, and prefers this content coding to none.
 * containerd asks for whole blobs with `bytes=0-`; a response with a coding is then a whole one.
 */
export function acceptsCoding(
  { method, headers }: Pick<RequestContext, 'method' | 'headers'>,
  coding: 'gzip' | 'zstd',
): boolean {
  const { range } = headers;
  if (method !== 'GET' || (range !== undefined && range.trim() !== 'bytes=0-')) return false;
  const names = coding === 'gzip' ? gzipNames(headers) : [coding];
  const [preferred] = new Negotiator({ headers }).encodings([...names, 'identity']);
  return preferred !== undefined && preferred !== 'identity';
}

/**
 * The names of gzip in a negotiation. `x-gzip` is the same (RFC 9110, section 8.4.1.3), but `*` does not mean
 * it beside `gzip;q=0`.
 */
export function gzipNames(headers: IncomingHttpHeaders): readonly string[] {
  const { 'accept-encoding': accepted = '' } = headers;
  return /\bx-gzip\b/i.test(accepted) ? ['gzip', 'x-gzip'] : ['gzip'];
}
