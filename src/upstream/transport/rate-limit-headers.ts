import type { IncomingHttpHeaders } from 'node:http';

/** Headers about a client's remaining requests, by name in lower case. */
export type RateLimitHeaders = Readonly<Record<string, string>>;

/**
 * `RateLimit-*` (draft-ietf-httpapi-ratelimit-headers, all versions) and the headers of Docker Hub and
 * others.
 */
const NAME = /^(x-)?ratelimit(-[a-z-]{1,32})?$|^docker-ratelimit-source$/;
const MAX_VALUE_CHARACTERS = 256;

/** The rate limit headers of a response; `undefined` if it has none. */
export function readRateLimit(headers: IncomingHttpHeaders): RateLimitHeaders | undefined {
  const found = Object.entries(headers).filter(
    (entry): entry is [string, string] =>
      NAME.test(entry[0]) &&
      typeof entry[1] === 'string' &&
      entry[1].length <= MAX_VALUE_CHARACTERS &&
      /^[\x20-\x7e]+$/.test(entry[1]),
  );
  return found.length === 0 ? undefined : Object.fromEntries(found);
}
