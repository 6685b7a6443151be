import { BoundedMap } from '../cache/bounded-map.ts';
import type { Digest } from '../core/digest.ts';

const MAX_LOCATIONS = 10_000;
const DEFAULT_LIFETIME_MS = 60_000;
/** A URL is not used in its last seconds, or its last quarter where it lives shortly. */
const EXPIRY_MARGIN_MS = 30_000;

/**
 * Where the redirects of blobs led: signed URLs that are good for many ranges, which saves the registry a request for each.
 * Forgetting one costs that request, nothing else.
 */
export class BlobLocations {
  readonly #locations = new BoundedMap<{ readonly url: URL; readonly expiresAtMs: number }>({
    maxEntries: MAX_LOCATIONS,
  });
  readonly #now: () => number;

  constructor(now: () => number = Date.now) {
    this.#now = now;
  }

  get(repository: string, digest: Digest): URL | undefined {
    const found = this.#locations.get(`${repository}@${digest}`);
    return found !== undefined && this.#now() < found.expiresAtMs ? found.url : undefined;
  }

  set(repository: string, digest: Digest, url: URL): void {
    const now = this.#now();
    const lifetimeMs = (signedUntilMs(url.searchParams) ?? now + DEFAULT_LIFETIME_MS) - now;
    const expiresAtMs = now + lifetimeMs - Math.min(EXPIRY_MARGIN_MS, Math.max(0, lifetimeMs / 4));
    this.#locations.set(`${repository}@${digest}`, { url, expiresAtMs });
  }

  delete(repository: string, digest: Digest): void {
    this.#locations.delete(`${repository}@${digest}`);
  }
}

/**
 * When a signed URL ends, if it says so: `X-Amz-Date` and `X-Amz-Expires` (S3, signature version 4; Google says the same with
 * `X-Goog-`), or `Expires` in seconds of the epoch (CloudFront, S3 signature version 2).
 */
function signedUntilMs(query: URLSearchParams): number | undefined {
  for (const vendor of ['X-Amz', 'X-Goog']) {
    const date = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(query.get(`${vendor}-Date`) ?? '');
    const seconds = /^\d{1,7}$/.exec(query.get(`${vendor}-Expires`) ?? '');
    if (date === null || seconds === null) continue;
    const [, year, month, day, hour, minute, second] = date;
    return Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`) + Number(seconds[0]) * 1000;
  }
  const expires = /^\d{9,11}$/.exec(query.get('Expires') ?? '');
  return expires === null ? undefined : Number(expires[0]) * 1000;
}
