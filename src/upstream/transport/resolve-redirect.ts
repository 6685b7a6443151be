import { SpandrelError } from '../../core/errors.ts';

/** As many as Go's HTTP client follows, which pulls for containerd, docker and skopeo, or one more. */
export const MAX_REDIRECTS = 10;

const REDIRECTS: ReadonlySet<number> = new Set([301, 302, 303, 307, 308]);

export function isRedirect(status: number): boolean {
  return REDIRECTS.has(status);
}

/**
 * Where a redirect leads, if we go there: not from https to http, not to a URL with credentials. Which addresses are connected to
 * is not decided here.
 * @throws SpandrelError UPSTREAM_PROTOCOL
 */
export function resolveRedirect(upstream: string, from: URL, location: string | undefined): URL {
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
  return target;
}
