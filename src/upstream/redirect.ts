import { SpandrelError } from '../core/errors.ts';
import { isMetadataAddress } from './address-guard.ts';

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export function isRedirect(status: number): boolean {
  return REDIRECTS.has(status);
}

/**
 * Where a redirect leads, if we go there: not from https to http, not to a link-local address unless the upstream itself has
 * one, not to a URL with credentials.
 * @throws SpandrelError UPSTREAM_PROTOCOL
 */
export function resolveRedirect(upstream: string, base: URL, from: URL, location: string | undefined): URL {
  const refuse = (words: string): never => {
    throw new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${upstream}: redirect ${words}`);
  };
  if (location === undefined || !URL.canParse(location, from.href)) return refuse('without a place to go to');
  const target = new URL(location, from);
  target.hash = '';
  if (target.protocol !== 'https:' && target.protocol !== 'http:')
    return refuse('to something that is not HTTP');
  if (from.protocol === 'https:' && target.protocol === 'http:') return refuse('from https to http');
  if (target.username !== '' || target.password !== '') return refuse('to a URL with credentials');
  if (isMetadataAddress(target.hostname) && !isMetadataAddress(base.hostname))
    return refuse('to a link-local address');
  return target;
}
