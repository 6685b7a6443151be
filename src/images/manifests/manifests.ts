import { randomUUID } from 'node:crypto';

import type { DigestFiles } from '../../blobs/shelves/digest-files.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Patience } from '../../cache/patience.ts';
import { PatientFlight } from '../../cache/patient-flight.ts';
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
import { parseManifest, type StoredManifest } from '../documents/parse-manifest.ts';
import type { ManifestStore } from '../documents/manifest-store.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface ManifestsDeps {
  readonly store: ManifestStore;
  readonly proofs: BlobProofs;
  /** What each tag pointed to last; survives a restart. */
  readonly tags: DigestFiles;
  readonly knownLayers: KnownLayers;
  /** How long a tag's answer is good without asking the upstream again; with 0 it is asked each time. */
  readonly tagAgeMs: number;
  /** How long it is remembered that the upstream does not have something. */
  readonly negativeAgeMs: number;
  /** For upstreams that are slow to say where a known tag points to. */
  readonly patience: Patience;
  readonly events: Events;
  readonly logger: Logger;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: () => number;
}

export interface FoundManifest {
  readonly manifest: StoredManifest;
  readonly source: ByteSource;
  /** What the upstream has said of the requests that are left, if it was asked. */
  readonly rateLimit?: RateLimitHeaders | undefined;
  /** The tag as last seen: the upstream does not say whether it has moved. */
  readonly stale?: { readonly ageMs: number | undefined };
}

interface SeenTag {
  readonly digest: Digest;
  /** When the upstream last said so. */
  readonly atMs: number;
  /** Which question of all that were asked has been answered so: what a later one finds stands. */
  readonly question: number;
}

/** What a tag is answered with while the upstream does not say where it points to. */
interface LastSeen {
  readonly manifest: StoredManifest;
  /** `undefined` if it was seen in an earlier life. */
  readonly atMs: number | undefined;
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
 * is asked where it points to, and the manifest is fetched if it is another one. While the upstream is away, throttles or takes too
 * long, a tag answers as last seen, and the question goes on behind.
 */
export class Manifests implements AsyncDisposable {
  readonly #deps: ManifestsDeps;
  readonly #now: () => number;
  readonly #flights: PatientFlight<FoundManifest>;
  readonly #tags = new BoundedMap<SeenTag>({ maxEntries: MAX_TAGS });
  readonly #absent = new BoundedMap<Absence>({ maxEntries: MAX_ABSENT });
  #questions = 0;

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
    if (!('tag' in reference)) return this.#askByDigest(target, reference.digest, key, signal);
    const seen = this.#tags.get(key);
    if (seen !== undefined && this.#now() - seen.atMs < this.#deps.tagAgeMs) {
      const last = await this.#lastSeen(target, key);
      if (last !== undefined) return { manifest: last.manifest, source: 'disk' };
    }
    // Nothing is waited for before this, so that all who ask at the same time have one question.
    const work = (closing: AbortSignal): Promise<FoundManifest> =>
      this.#byTag(target, reference, key, closing);
    const found = await this.#flights.runPatiently(key, target.client.name, work, signal);
    if (found !== undefined) return found;
    const last = await this.#lastSeen(target, key);
    return last === undefined ? this.#flights.run(key, work, signal) : this.#stale(last);
  }

  /**
   * As {@link get}, for those who know that something has changed: whatever is remembered, the upstream is asked, no question is joined
   * that was asked before, and no tag is answered as last seen.
   */
  async refresh(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    const key = manifestKey(target, reference);
    this.#absent.delete(key);
    const ask = async (closing: AbortSignal): Promise<FoundManifest> =>
      'tag' in reference
        ? this.#locateTag(target, reference, key, await this.#lastSeen(target, key), closing)
        : this.#byDigest(target, reference.digest, closing);
    const work = (closing: AbortSignal): Promise<FoundManifest> =>
      this.#notingAbsence(key, () => ask(closing));
    return this.#flights.run(`${key} ${randomUUID()}`, work, signal);
  }

  #askByDigest(
    target: Target,
    digest: Digest,
    key: string,
    signal: AbortSignal | undefined,
  ): Promise<FoundManifest> {
    const work = (closing: AbortSignal): Promise<FoundManifest> =>
      this.#notingAbsence(key, () => this.#byDigest(target, digest, closing));
    return this.#flights.run(key, work, signal);
  }

  async #notingAbsence(key: string, ask: () => Promise<FoundManifest>): Promise<FoundManifest> {
    const question = ++this.#questions;
    try {
      return await ask();
    } catch (error) {
      if (isSpandrelError(error, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN') && this.#isNews(key, question))
        this.#absent.set(key, { error, atMs: this.#now() });
      throw error;
    }
  }

  /** False if a later question has been answered already: what it found stands. */
  #isNews(key: string, question: number): boolean {
    return (this.#tags.get(key)?.question ?? 0) < question;
  }

  async #byDigest(target: Target, digest: Digest, closing: AbortSignal): Promise<FoundManifest> {
    const { proofs } = this.#deps;
    const stored = await this.#stored(digest);
    if (stored === undefined || !(await proofs.isSent(target, digest)))
      return this.#fetch(target, { digest }, closing);
    await proofs.authorizeManifest(target, digest);
    await this.#learnLayers(target, stored);
    return { manifest: stored, source: 'disk' };
  }

  async #byTag(
    target: Target,
    reference: { tag: string },
    key: string,
    closing: AbortSignal,
  ): Promise<FoundManifest> {
    const last = await this.#lastSeen(target, key);
    try {
      return await this.#notingAbsence(key, () => this.#locateTag(target, reference, key, last, closing));
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
    const question = ++this.#questions;
    const digest = last?.manifest.digest;
    const stat = last && (await this.#statKnown(target, reference, closing));
    if (last !== undefined && stat?.digest === digest) {
      if (this.#isNews(key, question))
        this.#tags.set(key, { digest: last.manifest.digest, atMs: this.#now(), question });
      this.#deps.proofs.remember(target, last.manifest.digest);
      return { manifest: last.manifest, source: 'disk', rateLimit: stat?.rateLimit };
    }
    const found = await this.#fetch(target, reference, closing);
    if (!this.#isNews(key, question)) return found;
    this.#tags.set(key, { digest: found.manifest.digest, atMs: this.#now(), question });
    if (found.manifest.digest !== digest)
      await this.#deps.tags.tryWrite(digestOf(key), Buffer.from(found.manifest.digest));
    return found;
  }

  #stale({ manifest, atMs }: LastSeen): FoundManifest {
    const ageMs = atMs === undefined ? undefined : Math.max(0, this.#now() - atMs);
    return { manifest, source: 'disk', stale: { ageMs } };
  }

  /** Asking where a tag points to is cheaper than fetching the manifest, and not counted as a pull by those who count pulls. */
  async #statKnown(
    target: Target,
    reference: Reference,
    closing: AbortSignal,
  ): Promise<ManifestStat | undefined> {
    try {
      return await target.client.statManifest(target.repository, reference, closing);
    } catch (error) {
      // Whether the tag is gone or the question was not understood shows when the manifest is fetched.
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
    return (await this.#readIfPossible(() => this.#deps.tags.read(digestOf(key))))?.toString('latin1');
  }

  /** What cannot be read at the moment is asked for as if it were not stored. */
  async #readIfPossible<T>(read: () => Promise<T | undefined>): Promise<T | undefined> {
    try {
      return await read();
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FAILED')) throw error;
      this.#deps.logger.warn({ err: error }, 'a manifest or tag of the store could not be read');
      return undefined;
    }
  }

  #stored(digest: Digest): Promise<StoredManifest | undefined> {
    return this.#readIfPossible(() => this.#deps.store.get(digest));
  }

  async #fetch(target: Target, reference: Reference, closing: AbortSignal): Promise<FoundManifest> {
    const { rateLimit, ...fetched } = await target.client.fetchManifest(target.repository, reference, {
      accept: [...MANIFEST_MEDIA_TYPES, '*/*'],
      signal: closing,
    });
    const manifest = { ...fetched, bytes: Buffer.from(fetched.bytes) };
    await this.#deps.store.tryPut(manifest);
    this.#deps.proofs.rememberSent(target, manifest.digest);
    await this.#learnLayers(target, manifest);
    return { manifest, source: 'upstream', rateLimit };
  }

  async #learnLayers(target: Target, manifest: StoredManifest): Promise<void> {
    try {
      const parse = (): ReturnType<typeof parseManifest> => parseManifest(manifest);
      const isSmall = manifest.bytes.byteLength <= SMALL_DOCUMENT_BYTES;
      const parsed = isSmall ? parse() : await inOwnTurn(parse);
      if (parsed.kind === 'image') this.#deps.knownLayers.learn(target, manifest.digest, parsed);
    } catch (error) {
      // An artifact that is no image is served like any other; there is nothing to learn from it.
      if (!isSpandrelError(error, 'IMAGE_UNSUPPORTED')) throw error;
    }
  }

  /** Ends questions that go on behind. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flights[Symbol.asyncDispose]();
  }
}

function manifestKey(target: Target, reference: Reference): string {
  const separator = 'tag' in reference ? ':' : '@';
  return `${targetKey(target)}${separator}${formatReference(reference)}`;
}
