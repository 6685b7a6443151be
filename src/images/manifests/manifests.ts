import { randomUUID } from 'node:crypto';

import type { DigestFiles } from '../../blobs/shelves/digest-files.ts';
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
import { type KnownAnswer, KnownAnswers, type Question } from './known-answers.ts';
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

/** The response for a tag while the upstream cannot resolve it. */
interface LastSeen {
  readonly manifest: ManifestDocument;
  /** `undefined` if it was seen before a restart. */
  readonly atMs: number | undefined;
}

const LAST_TAG_PREFIX = 'last-tag:1:';
/** Questions about a tag that moves all the time. */
const MAX_TRIES = 5;

/**
 * Manifests of upstreams. By digest they are immutable and kept. A tag is kept for `tagAgeMs`; then the
 * upstream resolves it again, and a new manifest is fetched. While the upstream is away, throttles or is
 * slow, the tag is served as last seen, and the request to the upstream continues in the background.
 */
export class Manifests implements AsyncDisposable {
  readonly #deps: ManifestsDeps;
  readonly #now: () => number;
  readonly #flights: PatientFlight<FoundManifest>;
  readonly #answers: KnownAnswers;

  constructor(deps: ManifestsDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? (() => performance.now());
    this.#flights = new PatientFlight('manifest', deps.events, deps.patience);
    this.#answers = new KnownAnswers({ ...deps, shared: deps.sharedTags, now: this.#now });
  }

  /** @throws SpandrelError MANIFEST_UNKNOWN, NAME_UNKNOWN, DENIED, an UPSTREAM_* code */
  async get(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    const key = manifestKey(target, reference);
    const fresh = this.#answers.fresh(key);
    if (fresh !== undefined && (await this.#answers.isLatest(key, fresh))) {
      if ('absence' in fresh.said) throw copyOf(fresh.said.absence);
      const last = 'tag' in reference ? await this.#lastSeen(target, key) : undefined;
      if (last !== undefined) return { manifest: last.manifest, source: 'disk' };
    }
    if (!('tag' in reference)) return this.#getByDigest(target, reference.digest, key, signal);
    const work = (closing: AbortSignal): Promise<FoundManifest> =>
      this.#resolveTag(target, reference, key, closing);
    // No await before this line unless an answer is fresh: all concurrent requests must join one flight.
    const found = await this.#join(target, key, work, signal);
    return found ?? this.#flights.run(key, work, signal);
  }

  /**
   * The result of a question that this caller or an earlier one has begun; `undefined` if somebody has heard
   * of a move since an earlier one began.
   */
  async #join(
    target: Target,
    key: string,
    work: (closing: AbortSignal) => Promise<FoundManifest>,
    signal: AbortSignal | undefined,
  ): Promise<FoundManifest | undefined> {
    const isEarlier = this.#flights.isRunning(key);
    try {
      const found = await this.#flights.runPatiently(key, target.client.name, work, signal);
      if (found !== undefined) {
        const { digest } = found.manifest;
        return !isEarlier || (await this.#answers.isCurrent(key, { digest })) ? found : undefined;
      }
    } catch (error) {
      if (!isEarlier || !isAbsence(error) || (await this.#answers.isCurrent(key, { absence: error })))
        throw error;
      return undefined;
    }
    const last = await this.#lastSeen(target, key, (await this.#answers.ask(key)).told);
    return last && this.#stale(last);
  }

  /**
   * As {@link get}, for a caller that knows of a change: asks the upstream in any case, joins no earlier
   * request, and never returns a stale tag.
   */
  async refresh(target: Target, reference: Reference, signal?: AbortSignal): Promise<FoundManifest> {
    const key = manifestKey(target, reference);
    this.#answers.forgetAbsence(key);
    const work = async (closing: AbortSignal): Promise<FoundManifest> => {
      const question = await this.#answers.ask(key);
      if (!('tag' in reference))
        return this.#settle(question, true, () => this.#resolveDigest(target, reference.digest, closing));
      return this.#locateTag(target, reference, question, await this.#lastSeen(target, key), closing);
    };
    return this.#flights.run(`${key} ${randomUUID()}`, work, signal);
  }

  #getByDigest(
    target: Target,
    digest: Digest,
    key: string,
    signal: AbortSignal | undefined,
  ): Promise<FoundManifest> {
    const work = async (closing: AbortSignal): Promise<FoundManifest> => {
      const question = await this.#answers.ask(key);
      const told = await this.#useTold(target, question, closing);
      return told ?? this.#settle(question, false, () => this.#resolveDigest(target, digest, closing));
    };
    return this.#flights.run(key, work, signal);
  }

  /**
   * The manifest that another replica was told of, during the lifetime of that answer.
   * @throws SpandrelError MANIFEST_UNKNOWN or NAME_UNKNOWN if it was told that there is none
   */
  async #useTold(
    target: Target,
    { key, told }: Question,
    closing: AbortSignal,
  ): Promise<FoundManifest | undefined> {
    if (told === undefined || !this.#answers.isFresh(told)) return undefined;
    if ('absence' in told.said) {
      this.#answers.remember(key, told);
      throw copyOf(told.said.absence);
    }
    const { digest } = told.said;
    const before = this.#digestOf(key);
    try {
      const found = await this.#resolveDigest(target, digest, closing);
      if (this.#answers.remember(key, told) && before !== digest) await this.#keepTag(key, digest);
      return found;
    } catch (error) {
      // The upstream itself decides, and stale tags may do.
      if (!isSpandrelError(error)) throw error;
      return undefined;
    }
  }

  /**
   * Asks the upstream, and notes what it says. Asks again if something else was noted meanwhile.
   * @param isNoted whether a manifest that exists is noted too, not only a missing one
   */
  async #settle(
    question: Question,
    isNoted: boolean,
    ask: () => Promise<FoundManifest>,
  ): Promise<FoundManifest> {
    let asked = question;
    for (let tries = 1; ; tries++) {
      const found = await orAbsence(ask);
      const isAbsent = found instanceof SpandrelError;
      const said = isAbsent ? { absence: found } : { digest: found.manifest.digest };
      const other = isAbsent || isNoted ? await this.#answers.settle(asked, said) : undefined;
      if (other !== undefined && tries < MAX_TRIES) asked = await this.#answers.ask(question.key);
      else if (isAbsent) throw found;
      else return found;
    }
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
    const question = await this.#answers.ask(key);
    const told = await this.#useTold(target, question, closing);
    if (told !== undefined) return told;
    const last = await this.#lastSeen(target, key);
    try {
      return await this.#locateTag(target, reference, question, last, closing);
    } catch (error) {
      const seen = isUpstreamAway(error) ? await this.#lastSeen(target, key, question.told) : undefined;
      if (!isUpstreamAway(error) || seen === undefined) throw error;
      this.#deps.logger.warn(
        { upstream: target.client.name, code: error.code },
        'upstream away: serving the tag as last seen',
      );
      return this.#stale(seen);
    }
  }

  async #locateTag(
    target: Target,
    reference: { tag: string },
    question: Question,
    last: LastSeen | undefined,
    closing: AbortSignal,
  ): Promise<FoundManifest> {
    const { key } = question;
    const before = this.#digestOf(key) ?? last?.manifest.digest;
    const found = await this.#settle(question, true, async () => {
      const stat = last && (await this.#statKnown(target, reference, closing));
      if (last === undefined || stat?.digest !== last.manifest.digest)
        return this.#fetch(target, reference, closing);
      this.#deps.proofs.remember(target, last.manifest.digest);
      return { manifest: last.manifest, source: 'disk', rateLimit: stat.rateLimit };
    });
    const { digest } = found.manifest;
    if (digest !== before) await this.#keepTag(key, digest);
    else this.#deps.lasting?.keep?.(LAST_TAG_PREFIX + key, () => Buffer.from(digest));
    return found;
  }

  #digestOf(key: string): Digest | undefined {
    const said = this.#answers.lastTag(key)?.said;
    return said !== undefined && 'digest' in said ? said.digest : undefined;
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

  /** @param told what another replica was told later than this one */
  async #lastSeen(target: Target, key: string, told?: KnownAnswer): Promise<LastSeen | undefined> {
    const { proofs } = this.#deps;
    if (told !== undefined && 'digest' in told.said && (await proofs.isSent(target, told.said.digest))) {
      const manifest = await this.#storedFor(target, told.said.digest);
      if (manifest !== undefined) return { manifest, atMs: told.atMs };
    }
    const digest = this.#digestOf(key) ?? (await this.#readTag(key));
    const manifest =
      digest !== undefined && isDigest(digest) ? await this.#storedFor(target, digest) : undefined;
    return manifest && { manifest, atMs: this.#answers.lastTag(key)?.atMs };
  }

  async #storedFor(target: Target, digest: Digest): Promise<ManifestDocument | undefined> {
    const manifest = await this.#stored(digest);
    if (manifest !== undefined) await this.#learnLayers(target, manifest);
    return manifest;
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

/** The upstream's answer that there is no such manifest, as a value. */
async function orAbsence(ask: () => Promise<FoundManifest>): Promise<FoundManifest | SpandrelError> {
  try {
    return await ask();
  } catch (error) {
    if (!isAbsence(error)) throw error;
    return error;
  }
}

/** Each request throws its own error. */
function copyOf({ code, message }: SpandrelError): SpandrelError {
  return new SpandrelError(code, message);
}

function manifestKey(target: Target, reference: Reference): string {
  const separator = 'tag' in reference ? ':' : '@';
  return `${targetKey(target)}${separator}${formatReference(reference)}`;
}
