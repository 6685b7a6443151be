import { randomUUID } from 'node:crypto';

import type { DigestFiles } from '../../blobs/shelves/digest-files.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import type { ByteCache } from '../../cache/byte-cache.ts';
import type { Patience } from '../../cache/patience.ts';
import { PatientFlight } from '../../cache/patient-flight.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import { type Digest, digestOf, isDigest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { formatReference, type Reference } from '../../core/image-reference.ts';
import { inOwnTurn, SMALL_DOCUMENT_BYTES } from '../../core/work/in-own-turn.ts';
import { MANIFEST_MEDIA_TYPES } from '../../core/media-types.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';
import { isUpstreamAway } from '../../upstream/faults/is-upstream-away.ts';
import type { ManifestStat } from '../../upstream/manifests/fetch-manifest.ts';
import type { RateLimitHeaders } from '../../upstream/transport/rate-limit-headers.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import type { KnownLayers } from '../documents/known-layers.ts';
import { parseManifest } from '../documents/parse-manifest.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';
import { isAbsence, type SharedTags } from './shared-tags.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface ManifestsDeps {
  readonly store: ManifestStore;
  readonly proofs: BlobProofs;
  /** The last digest of each tag; survives a restart. */
  readonly tags: DigestFiles;
  /** The same for other replicas, and for later ones. Read only if it is authentic. */
  readonly lasting?: ByteCache | undefined;
  /** What upstreams said to other replicas. */
  readonly sharedTags?: SharedTags | undefined;
  readonly knownLayers: KnownLayers;
  /** How long a tag is served without asking the upstream again; with 0 the upstream is asked each time. */
  readonly tagAgeMs: number;
  /** How long a missing manifest is remembered. */
  readonly negativeAgeMs: number;
  /** Bounds the wait for an upstream that is slow to resolve a known tag. */
  readonly patience: Patience;
  readonly events: Events;
  readonly logger: Logger;
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number;
}

export interface FoundManifest {
  readonly manifest: ManifestDocument;
  readonly source: ByteSource;
  /** The upstream's rate limit headers, if it was asked. */
  readonly rateLimit?: RateLimitHeaders | undefined;
  /** Present if the upstream did not say whether the tag has moved. */
  readonly stale?: { readonly ageMs: number | undefined };
}

interface SeenTag {
  readonly digest: Digest;
  /** When the upstream confirmed it. */
  readonly atMs: number;
  /** Number of the request that found it; the result of an earlier request does not replace it. */
  readonly request: number;
}

/** The response for a tag while the upstream cannot resolve it. */
interface LastSeen {
  readonly manifest: ManifestDocument;
  /** `undefined` if it was seen before a restart. */
  readonly atMs: number | undefined;
}

interface Absence {
  readonly error: SpandrelError;
  readonly atMs: number;
}

const LAST_TAG_PREFIX = 'last-tag:1:';
const MAX_TAGS = 100_000;
/** Names that do not exist are unlimited in number. */
const MAX_ABSENT = 10_000;

/**
 * Manifests of upstreams. By digest they are immutable and kept. A tag is kept for `tagAgeMs`; then the
 * upstream resolves it again, and a new manifest is fetched. While the upstream is away, throttles or is
 * slow, the tag is served as last seen, and the request to the upstream continues in the background.
 */
export class Manifests implements AsyncDisposable {
  readonly #deps: ManifestsDeps;
  readonly #now: () => number;
  readonly #flights: PatientFlight<FoundManifest>;
  readonly #tags = new BoundedMap<SeenTag>({ maxEntries: MAX_TAGS });
  readonly #absent = new BoundedMap<Absence>({ maxEntries: MAX_ABSENT });
  #requests = 0;

  constructor(deps: ManifestsDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? (() => performance.now());
    this.#flights = new PatientFlight('manifest', deps.events, deps.patience);
  }

  /** @throws SpandrelError MANIFEST_UNKNOWN, NAME_UNKNOWN, DENIED, an UPSTREAM_* code */
  async get(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    const key = manifestKey(target, reference);
    const absence = this.#absent.get(key);
    if (absence !== undefined) {
      const { code, message } = absence.error;
      if (this.#now() - absence.atMs < this.#deps.negativeAgeMs) throw new SpandrelError(code, message);
      this.#absent.delete(key);
    }
    if (!('tag' in reference)) return this.#getByDigest(target, reference.digest, key, signal);
    const seen = this.#tags.get(key);
    if (seen !== undefined && this.#now() - seen.atMs < this.#deps.tagAgeMs) {
      const last = await this.#lastSeen(target, key);
      if (last !== undefined) return { manifest: last.manifest, source: 'disk' };
    }
    // No await before this line: all concurrent requests must join one flight.
    const work = async (closing: AbortSignal): Promise<FoundManifest> =>
      (await this.#askReplicas(target, key, closing)) ?? this.#resolveTag(target, reference, key, closing);
    const found = await this.#flights.runPatiently(key, target.client.name, work, signal);
    if (found !== undefined) return found;
    const last = await this.#lastSeen(target, key);
    return last === undefined ? this.#flights.run(key, work, signal) : this.#stale(last);
  }

  /**
   * As {@link get}, for a caller that knows of a change: asks the upstream in any case, joins no earlier
   * request, and never returns a stale tag.
   */
  async refresh(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    const key = manifestKey(target, reference);
    this.#absent.delete(key);
    const ask = async (closing: AbortSignal): Promise<FoundManifest> =>
      'tag' in reference
        ? this.#locateTag(target, reference, key, await this.#lastSeen(target, key), closing)
        : this.#resolveDigest(target, reference.digest, closing);
    const work = (closing: AbortSignal): Promise<FoundManifest> =>
      this.#rememberingAbsence(key, () => ask(closing));
    return this.#flights.run(`${key} ${randomUUID()}`, work, signal);
  }

  #getByDigest(
    target: Target,
    digest: Digest,
    key: string,
    signal: AbortSignal | undefined,
  ): Promise<FoundManifest> {
    const work = async (closing: AbortSignal): Promise<FoundManifest> =>
      (await this.#askReplicas(target, key, closing)) ??
      this.#rememberingAbsence(key, () => this.#resolveDigest(target, digest, closing));
    return this.#flights.run(key, work, signal);
  }

  /**
   * The manifest of a tag whose digest the upstream told another replica recently.
   * @throws SpandrelError MANIFEST_UNKNOWN or NAME_UNKNOWN if it told that there is none
   */
  async #askReplicas(target: Target, key: string, closing: AbortSignal): Promise<FoundManifest | undefined> {
    const { sharedTags, tagAgeMs, negativeAgeMs } = this.#deps;
    const request = ++this.#requests;
    const answer = await sharedTags?.find(key);
    if (answer === undefined) return undefined;
    const atMs = this.#now() - answer.ageMs;
    if ('absence' in answer) {
      if (answer.ageMs >= negativeAgeMs) return undefined;
      this.#absent.set(key, { error: answer.absence, atMs });
      throw answer.absence;
    }
    if (answer.ageMs >= tagAgeMs) return undefined;
    try {
      const found = await this.#resolveDigest(target, answer.digest, closing);
      if (!this.#isNewest(key, request)) return found;
      const before = this.#tags.get(key)?.digest;
      this.#tags.set(key, { digest: answer.digest, atMs, request });
      if (before !== answer.digest) await this.#keepTag(key, answer.digest);
      return found;
    } catch (error) {
      // The upstream itself decides, and stale tags may do.
      if (!isSpandrelError(error)) throw error;
      return undefined;
    }
  }

  async #rememberingAbsence(key: string, ask: () => Promise<FoundManifest>): Promise<FoundManifest> {
    const request = ++this.#requests;
    try {
      return await ask();
    } catch (error) {
      if (isAbsence(error) && this.#isNewest(key, request)) {
        this.#absent.set(key, { error, atMs: this.#now() });
        this.#deps.sharedTags?.noteAbsence(key, error);
      }
      throw error;
    }
  }

  /** False if a later request has already found the tag: its result stands. */
  #isNewest(key: string, request: number): boolean {
    return (this.#tags.get(key)?.request ?? 0) < request;
  }

  async #resolveDigest(target: Target, digest: Digest, closing: AbortSignal): Promise<FoundManifest> {
    const { proofs } = this.#deps;
    const stored = await this.#stored(digest);
    if (stored === undefined || !(await proofs.isSent(target, digest)))
      return this.#fetch(target, { digest }, closing);
    await proofs.authorizeManifest(target, digest);
    await this.#learnLayers(target, stored);
    return { manifest: stored, source: 'disk' };
  }

  async #resolveTag(
    target: Target,
    reference: { tag: string },
    key: string,
    closing: AbortSignal,
  ): Promise<FoundManifest> {
    const last = await this.#lastSeen(target, key);
    try {
      return await this.#rememberingAbsence(key, () =>
        this.#locateTag(target, reference, key, last, closing),
      );
    } catch (error) {
      if (!isUpstreamAway(error) || last === undefined) throw error;
      this.#deps.logger.warn(
        { upstream: target.client.name, code: error.code },
        'upstream away: serving the tag as last seen',
      );
      return this.#stale(last);
    }
  }

  async #locateTag(
    target: Target,
    reference: { tag: string },
    key: string,
    last: LastSeen | undefined,
    closing: AbortSignal,
  ): Promise<FoundManifest> {
    const request = ++this.#requests;
    const digest = last?.manifest.digest;
    const stat = last && (await this.#statKnown(target, reference, closing));
    if (last !== undefined && stat?.digest === digest) {
      if (this.#isNewest(key, request)) this.#confirmTag(key, last.manifest.digest, request);
      this.#deps.proofs.remember(target, last.manifest.digest);
      return { manifest: last.manifest, source: 'disk', rateLimit: stat?.rateLimit };
    }
    const found = await this.#fetch(target, reference, closing);
    if (!this.#isNewest(key, request)) return found;
    this.#confirmTag(key, found.manifest.digest, request);
    if (found.manifest.digest !== digest) await this.#keepTag(key, found.manifest.digest);
    return found;
  }

  /** The upstream has just said what the tag's digest is. */
  #confirmTag(key: string, digest: Digest, request: number): void {
    this.#tags.set(key, { digest, atMs: this.#now(), request });
    this.#deps.sharedTags?.noteTag(key, digest);
  }

  async #keepTag(key: string, digest: Digest): Promise<void> {
    const { tags, lasting } = this.#deps;
    await tags.tryWrite(digestOf(key), Buffer.from(digest));
    await lasting?.set(LAST_TAG_PREFIX + key, Buffer.from(digest));
  }

  #stale({ manifest, atMs }: LastSeen): FoundManifest {
    const ageMs = atMs === undefined ? undefined : Math.max(0, this.#now() - atMs);
    return { manifest, source: 'disk', stale: { ageMs } };
  }

  /** Resolves a tag without fetching the manifest, which is cheaper and does not count as a pull. */
  async #statKnown(
    target: Target,
    reference: Reference,
    closing: AbortSignal,
  ): Promise<ManifestStat | undefined> {
    try {
      return await target.client.statManifest(target.repository, reference, closing);
    } catch (error) {
      // The fetch of the manifest tells a missing tag from a HEAD that the registry does not support.
      if (isSpandrelError(error, 'MANIFEST_UNKNOWN', 'BLOB_CORRUPT', 'UPSTREAM_PROTOCOL')) return undefined;
      throw error;
    }
  }

  async #lastSeen(target: Target, key: string): Promise<LastSeen | undefined> {
    const seen = this.#tags.get(key);
    const digest = seen?.digest ?? (await this.#readTag(key));
    const manifest = digest !== undefined && isDigest(digest) ? await this.#stored(digest) : undefined;
    if (manifest !== undefined) await this.#learnLayers(target, manifest);
    return manifest && { manifest, atMs: seen?.atMs };
  }

  async #readTag(key: string): Promise<string | undefined> {
    const { tags, lasting } = this.#deps;
    const stored = await this.#readIfPossible(() => tags.read(digestOf(key)));
    if (stored !== undefined || lasting?.isAuthentic !== true) return stored?.toString('latin1');
    const hit = await lasting.get(LAST_TAG_PREFIX + key);
    return hit && Buffer.from(hit.bytes).toString('latin1');
  }

  /** Treats what cannot be read from disk as not stored. */
  async #readIfPossible<T>(read: () => Promise<T | undefined>): Promise<T | undefined> {
    try {
      return await read();
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FAILED', 'RESOURCE_EXHAUSTED')) throw error;
      this.#deps.logger.warn({ err: error }, 'a manifest or tag in the store cannot be read');
      return undefined;
    }
  }

  #stored(digest: Digest): Promise<ManifestDocument | undefined> {
    return this.#readIfPossible(() => this.#deps.store.get(digest));
  }

  async #fetch(target: Target, reference: Reference, closing: AbortSignal): Promise<FoundManifest> {
    const { rateLimit, ...manifest } = await target.client.fetchManifest(target.repository, reference, {
      accept: [...MANIFEST_MEDIA_TYPES, '*/*'],
      signal: closing,
    });
    await this.#deps.store.tryPut(manifest);
    this.#deps.proofs.rememberSent(target, manifest.digest);
    await this.#learnLayers(target, manifest);
    return { manifest, source: 'upstream', rateLimit };
  }

  async #learnLayers(target: Target, manifest: ManifestDocument): Promise<void> {
    try {
      const parse = (): ReturnType<typeof parseManifest> => parseManifest(manifest);
      const isSmall = manifest.bytes.byteLength <= SMALL_DOCUMENT_BYTES;
      const parsed = isSmall ? parse() : await inOwnTurn(parse);
      if (parsed.kind === 'image') this.#deps.knownLayers.learn(target, manifest.digest, parsed);
    } catch (error) {
      // Other artifacts are served too, but have no layers to learn.
      if (!isSpandrelError(error, 'IMAGE_UNSUPPORTED')) throw error;
    }
  }

  /** Ends requests that continue in the background. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flights[Symbol.asyncDispose]();
  }
}

function manifestKey(target: Target, reference: Reference): string {
  const separator = 'tag' in reference ? ':' : '@';
  return `${targetKey(target)}${separator}${formatReference(reference)}`;
}
