import type { DigestFiles } from '../blobs/digest-files.ts';
import { BoundedMap } from '../cache/bounded-map.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import { type Digest, digestOf, isDigest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { formatReference, type Reference } from '../core/image-name.ts';
import { MANIFEST_MEDIA_TYPES } from '../core/media-types.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { ByteSource, Metrics } from '../telemetry/metrics.ts';
import { isUpstreamAway } from '../upstream/fault-kinds.ts';
import type { BlobAccess } from './blob-access.ts';
import type { KnownLayers } from './known-layers.ts';
import { parseManifest, type StoredManifest } from './manifest.ts';
import type { ManifestStore } from './manifest-store.ts';
import { type Target, targetKey } from './target.ts';

export interface ManifestsDeps {
  readonly store: ManifestStore;
  readonly access: BlobAccess;
  /** What each tag pointed to last; survives a restart. */
  readonly tags: DigestFiles;
  readonly knownLayers: KnownLayers;
  /** How long a tag's answer is good without asking the upstream again; with 0 it is asked each time. */
  readonly tagAgeMs: number;
  /** How long it is remembered that the upstream does not have something. */
  readonly negativeAgeMs: number;
  readonly metrics: Metrics;
  readonly logger: Logger;
  /** Milliseconds of the epoch. */
  readonly now?: () => number;
}

export interface FoundManifest {
  readonly manifest: StoredManifest;
  readonly source: ByteSource;
}

interface SeenTag {
  readonly digest: Digest;
  /** When the upstream last said so; 0 if that was in an earlier life. */
  readonly atMs: number;
}

interface Absence {
  readonly error: SpandrelError;
  readonly atMs: number;
}

const MAX_TAGS = 100_000;
/** Names that do not exist are without number. */
const MAX_ABSENT = 10_000;

/**
 * Manifests of the upstreams. By digest they are immutable and kept. A tag is kept for a configured age; after that the upstream
 * is asked where it points to, and the manifest is fetched if it is another one. While the upstream is away or throttles, a tag
 * answers as last seen.
 */
export class Manifests {
  readonly #deps: ManifestsDeps;
  readonly #now: () => number;
  readonly #flights: SingleFlight<FoundManifest>;
  readonly #tags = new BoundedMap<SeenTag>({ maxEntries: MAX_TAGS });
  readonly #absent = new BoundedMap<Absence>({ maxEntries: MAX_ABSENT });

  constructor(deps: ManifestsDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? Date.now;
    this.#flights = new SingleFlight('manifest', deps.metrics);
  }

  /** @throws SpandrelError MANIFEST_UNKNOWN, NAME_UNKNOWN, UNAUTHORIZED, DENIED, an UPSTREAM_* code */
  async get(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    const key = manifestKey(target, reference);
    const absence = this.#absent.get(key);
    if (absence !== undefined) {
      const { code, message } = absence.error;
      if (this.#now() - absence.atMs < this.#deps.negativeAgeMs) throw new SpandrelError(code, message);
      this.#absent.delete(key);
    }
    if ('tag' in reference) {
      const seen = this.#tags.get(key);
      const isFresh = seen !== undefined && this.#now() - seen.atMs < this.#deps.tagAgeMs;
      const manifest = isFresh ? await this.#stored(seen.digest) : undefined;
      if (manifest !== undefined) return { manifest, source: 'disk' };
    }
    return this.#ask(target, reference, signal);
  }

  /** As {@link get}, but whatever is remembered, the upstream is asked: for those who know that something has changed. */
  async refresh(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    this.#absent.delete(manifestKey(target, reference));
    return this.#ask(target, reference, signal);
  }

  #ask(target: Target, reference: Reference, signal: AbortSignal | undefined): Promise<FoundManifest> {
    const key = manifestKey(target, reference);
    const ask = async (): Promise<FoundManifest> => {
      try {
        return await ('tag' in reference
          ? this.#byTag(target, reference, key)
          : this.#byDigest(target, reference.digest));
      } catch (error) {
        if (isSpandrelError(error, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN'))
          this.#absent.set(key, { error, atMs: this.#now() });
        throw error;
      }
    };
    return this.#flights.run(key, ask, signal);
  }

  async #byDigest(target: Target, digest: Digest): Promise<FoundManifest> {
    const stored = await this.#stored(digest);
    if (stored === undefined) return { manifest: await this.#fetch(target, { digest }), source: 'upstream' };
    await this.#deps.access.checkManifest(target, digest);
    return { manifest: stored, source: 'disk' };
  }

  async #byTag(target: Target, reference: { tag: string }, key: string): Promise<FoundManifest> {
    const last = this.#tags.get(key)?.digest ?? (await this.#lastSeen(key));
    const stored = last === undefined ? undefined : await this.#stored(last);
    try {
      if (stored !== undefined && (await this.#isCurrent(target, reference, stored.digest))) {
        this.#tags.set(key, { digest: stored.digest, atMs: this.#now() });
        this.#deps.access.remember(target, stored.digest);
        return { manifest: stored, source: 'disk' };
      }
      const manifest = await this.#fetch(target, reference);
      this.#tags.set(key, { digest: manifest.digest, atMs: this.#now() });
      if (manifest.digest !== last) await this.#deps.tags.write(digestOf(key), Buffer.from(manifest.digest));
      return { manifest, source: 'upstream' };
    } catch (error) {
      if (!isUpstreamAway(error) || stored === undefined) throw error;
      this.#deps.logger.warn(
        { upstream: target.client.name, code: error.code },
        'upstream away: serving the tag as last seen',
      );
      return { manifest: stored, source: 'disk' };
    }
  }

  /** Asking where a tag points to is cheaper than fetching the manifest, and not counted as a pull by those who count pulls. */
  async #isCurrent(target: Target, reference: Reference, digest: Digest): Promise<boolean> {
    try {
      return (await target.client.statManifest(target.repository, reference)) === digest;
    } catch (error) {
      // Whether the tag is gone or the question was not understood shows when the manifest is fetched.
      if (isSpandrelError(error, 'MANIFEST_UNKNOWN', 'BLOB_CORRUPT', 'UPSTREAM_PROTOCOL')) return false;
      throw error;
    }
  }

  async #lastSeen(key: string): Promise<Digest | undefined> {
    const digest = (await this.#deps.tags.read(digestOf(key)))?.toString('latin1');
    return digest !== undefined && isDigest(digest) ? digest : undefined;
  }

  async #stored(digest: Digest): Promise<StoredManifest | undefined> {
    const stored = await this.#deps.store.get(digest);
    if (stored !== undefined) this.#learnLayers(stored);
    return stored;
  }

  async #fetch(target: Target, reference: Reference): Promise<StoredManifest> {
    const fetched = await target.client.fetchManifest(target.repository, reference, {
      accept: [...MANIFEST_MEDIA_TYPES, '*/*'],
    });
    const manifest = { ...fetched, bytes: Buffer.from(fetched.bytes) };
    await this.#deps.store.put(manifest);
    this.#deps.access.remember(target, manifest.digest);
    this.#learnLayers(manifest);
    return manifest;
  }

  #learnLayers(manifest: StoredManifest): void {
    try {
      const parsed = parseManifest(manifest);
      if (parsed.kind === 'image') this.#deps.knownLayers.learn(manifest.digest, parsed);
    } catch (error) {
      // An artifact that is no image is served like any other; there is nothing to learn from it.
      if (!isSpandrelError(error, 'IMAGE_UNSUPPORTED')) throw error;
    }
  }
}

function manifestKey(target: Target, reference: Reference): string {
  const separator = 'tag' in reference ? ':' : '@';
  return `${targetKey(target)}${separator}${formatReference(reference)}`;
}
