import { SpandrelError } from '../../core/errors.ts';

/** Go's HTTP client, which containerd, docker and skopeo use, follows as many, or one less. */
export const MAX_REDIRECTS = 10;

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export function isRedirect(status: number): boolean {
  return REDIRECTS.has(status);
}

/**
 * Resolves a redirect. Refuses one from https to http, and a URL with credentials. Addresses are checked
 * elsewhere: {@link AddressGuard}.
 * @throws SpandrelError UPSTREAM_PROTOCOL
 */
export function resolveRedirect(upstream: string, from: URL, location: string | undefined): URL {
  const refuse = (words: string): never => {
    throw new SpandrelError('UPSTREAM_PROTOCOL', `upstream ${upstream}: redirect ${words}`);
  };
  if (location === undefined || !URL.canParse(location, from.href)) return refuse('without a valid Location');
  const target = new URL(location, from);
  target.hash = '';
  if (target.protocol !== 'https:' && target.protocol !== 'http:')
    return refuse('to a URL that is not http or https');
  if (from.protocol === 'https:' && target.protocol === 'http:') return refuse('from https to http');
  if (target.username !== '' || target.password !== '') return refuse('to a URL with credentials');
  return target;
}
