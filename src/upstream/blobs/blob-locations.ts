import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Digest } from '../../core/digest.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import { waitFor } from '../../core/wait-for.ts';

const MAX_LOCATIONS = 10_000;
const DEFAULT_LIFETIME_MS = 60_000;
/** Longest lifetime of an S3 signature. */
const LONGEST_LIFETIME_MS = 7 * 24 * 3_600_000;
/** A URL is not used in its last seconds, or in the last quarter of a short lifetime. */
const EXPIRY_MARGIN_MS = 30_000;
/** Longest wait for another request: a hanging one must not delay the others for long. */
const LONGEST_WAIT_MS = 1_000;

interface Location {
  /** `undefined` if the registry sends the blob itself. */
  readonly url: URL | undefined;
  readonly expiresAtMs: number;
}

/**
 * Remembers where redirects of blobs lead. A signed URL serves many ranges, so the registry gets one request
 * a blob instead of one a range. While one request finds the URL, others for the same blob wait. Losing an
 * entry costs one request.
 */
export class BlobLocations {
  readonly #locations = new BoundedMap<Location>({ maxEntries: MAX_LOCATIONS });
  /** Running searches; each resolves when it ends. */
  readonly #searches = new Map<string, Promise<void>>();
  readonly #now: () => number;

  /** @param now milliseconds of a clock that only goes forward */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get(repository: string, digest: Digest): URL | undefined {
    return this.#known(keyOf(repository, digest))?.url;
  }

  /**
   * The known URL, or the result of `search`, which requests the blob from the registry and calls {@link
   * set}. Waits for a running search of the same blob first.
   */
  async find<T>(
    repository: string,
    digest: Digest,
    signal: AbortSignal,
    search: () => Promise<T>,
  ): Promise<T | URL> {
    const key = keyOf(repository, digest);
    for (;;) {
      const known = this.#known(key);
      if (known !== undefined) return known.url ?? search();
      const other = this.#searches.get(key);
      if (other === undefined) break;
      if (!(await this.#endsSoon(other, signal))) return search();
    }
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#searches.set(key, promise);
    try {
      return await search();
    } finally {
      this.#searches.delete(key);
      resolve();
    }
  }

  /** Records that the blob came from `url`, or from the registry itself. */
  set(repository: string, digest: Digest, url: URL | undefined): void {
    const now = this.#now();
    const lifetimeMs = signedForMs(url?.searchParams, Date.now()) ?? DEFAULT_LIFETIME_MS;
    const expiresAtMs = now + lifetimeMs - Math.min(EXPIRY_MARGIN_MS, Math.max(0, lifetimeMs / 4));
    this.#locations.set(keyOf(repository, digest), { url, expiresAtMs });
  }

  /** Drops `url`, which no longer works. */
  forget(repository: string, digest: Digest, url: URL): void {
    const key = keyOf(repository, digest);
    if (this.#locations.get(key)?.url === url) this.#locations.delete(key);
  }

  async #endsSoon(search: Promise<void>, signal: AbortSignal): Promise<boolean> {
    using patience = new TimeLimit(LONGEST_WAIT_MS);
    try {
      await waitFor(search, patience.with(signal));
      return true;
    } catch {
      signal.throwIfAborted();
      return false;
    }
  }

  #known(key: string): Location | undefined {
    const found = this.#locations.get(key);
    return found !== undefined && this.#now() < found.expiresAtMs ? found : undefined;
  }
}

function keyOf(repository: string, digest: Digest): string {
  return `${repository}@${digest}`;
}

/**
 * Remaining lifetime of a signed URL at `wallMs`, the time of day; `undefined` if the URL does not say. Reads
 * `X-Amz-Date` and `X-Amz-Expires` (S3, signature version 4), the same with `X-Goog-` (Google), or `Expires`
 * in seconds of the epoch (CloudFront, S3 signature version 2). If this machine's clock is slow, the result
 * is at most the signed lifetime, or the longest that S3 allows.
 */
function signedForMs(query: URLSearchParams | undefined, wallMs: number): number | undefined {
  if (query === undefined) return undefined;
  for (const vendor of ['X-Amz', 'X-Goog']) {
    const date = /^(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z$/.exec(query.get(`${vendor}-Date`) ?? '');
    const seconds = /^\d{1,7}$/.exec(query.get(`${vendor}-Expires`) ?? '');
    if (date === null || seconds === null) continue;
    const [, year, month, day, hour, minute, second] = date;
    const signedAtMs = Date.parse(`${year}-${month}-${day}T${hour}:${minute}:${second}Z`);
    return Math.min(0, signedAtMs - wallMs) + Number(seconds[0]) * 1000;
  }
  const expires = /^\d{9,11}$/.exec(query.get('Expires') ?? '');
  return expires === null ? undefined : Math.min(LONGEST_LIFETIME_MS, Number(expires[0]) * 1000 - wallMs);
}
