import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Patience } from '../../cache/patience.ts';
import { PatientFlight } from '../../cache/patient-flight.ts';
import { SNAPSHOTTER_LOOKUP_MS } from '../../core/client-quirks.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { isBrokenTransfer, isUpstreamAway } from '../../upstream/faults/is-upstream-away.ts';
import type { IndexPolicies } from './index-policy.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { PushedIndexes } from './pushed-indexes.ts';
import type { SociIndexer } from './soci-indexer.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

export interface ReferrersDeps {
  readonly manifests: Manifests;
  readonly indexer: SociIndexer;
  readonly pushed: PushedIndexes;
  readonly policies: IndexPolicies;
  /** Bounds the wait for an upstream that is slow to list, where an older list or our own index will do. */
  readonly patience: Patience;
  readonly events: Events;
  readonly logger: Logger;
}

/** The last list from an upstream. */
interface LastList {
  readonly descriptors: readonly Descriptor[];
  readonly sizeBytes: number;
}

const MAX_LISTS_BYTES = 16 * 2 ** 20;
const DESCRIPTOR_BYTES = 500;

export interface ReferrersQuery {
  /** All types if empty. */
  readonly artifactTypes: readonly string[];
  readonly after: string | undefined;
  readonly limit: number;
}

export interface ReferrersPage {
  readonly descriptors: readonly Descriptor[];
  /** The `after` of the next page, if there is one. */
  readonly next: Digest | undefined;
}

/** Referrers of a manifest: those of the upstream, and our SOCI v1 index. */
export class Referrers implements AsyncDisposable {
  readonly #deps: ReferrersDeps;
  readonly #lists = new BoundedMap<LastList>({
    maxBytes: MAX_LISTS_BYTES,
    sizeOf: ({ sizeBytes }) => sizeBytes,
  });

  readonly #flights: PatientFlight<readonly Descriptor[]>;

  constructor(deps: ReferrersDeps) {
    this.#deps = deps;
    this.#flights = new PatientFlight('referrers', deps.events, deps.patience);
  }

  /**
   * As {@link list}, one page.
   * @param query `after`: digest of the last entry of the page before; `limit`: at least 1
   */
  async page(
    target: Target,
    digest: Digest,
    { artifactTypes, after, limit }: ReferrersQuery,
    signal: AbortSignal,
  ): Promise<ReferrersPage> {
    const all = await this.list(target, digest, artifactTypes, signal);
    const start = after === undefined ? 0 : all.findIndex((descriptor) => descriptor.digest === after) + 1;
    const descriptors = all.slice(start, start + limit);
    const isLast = start + descriptors.length >= all.length;
    return { descriptors, next: isLast ? undefined : descriptors.at(-1)?.digest };
  }

  /**
   * All referrers, or those of the given artifact types. If the upstream fails or hangs, those that it listed
   * last.
   * @throws SpandrelError UPSTREAM_* if it fails and has listed none yet; INDEX_PENDING if only a SOCI index
   * is requested and its build takes longer than the client may wait
   */
  async list(
    target: Target,
    digest: Digest,
    artifactTypes: readonly string[],
    signal: AbortSignal,
  ): Promise<Descriptor[]> {
    const isSociLookup =
      artifactTypes.length > 0 && artifactTypes.every((type) => type === MEDIA_TYPES.sociIndexV1);
    const isWanted = ({ artifactType = '' }: Pick<Descriptor, 'artifactType'>): boolean =>
      artifactTypes.length === 0 || artifactTypes.includes(artifactType);
    const listed = await this.#listUpstream(target, digest, isSociLookup, signal);
    if (isSpandrelError(listed) && !isSociLookup) throw listed;
    const known = isSpandrelError(listed) ? [] : listed;
    if (!isWanted({ artifactType: MEDIA_TYPES.sociIndexV1 })) return known.filter(isWanted);
    const others = known.filter(({ artifactType }) => artifactType !== MEDIA_TYPES.sociIndexV1);
    const indexes = await this.#sociIndexes(target, digest, known, isSociLookup, signal);
    // Our own index is a valid response without the upstream's list; an empty list is not.
    if (isSpandrelError(listed) && indexes.length === 0) throw listed;
    return [...others, ...indexes].filter(isWanted);
  }

  /** A pushed index takes precedence over ours; damaged ones are left out. */
  async #sociIndexes(
    target: Target,
    digest: Digest,
    listed: readonly Descriptor[],
    isSociLookup: boolean,
    signal: AbortSignal,
  ): Promise<Descriptor[]> {
    const pushed = listed.filter(({ artifactType }) => artifactType === MEDIA_TYPES.sociIndexV1);
    if (pushed.length > 0) {
      const { manifest } = await this.#deps.manifests.get(target, { digest }, signal);
      const usable = await this.#deps.pushed.usable(target, manifest, pushed, signal);
      if (usable.length > 0) return usable;
    }
    const own = await this.#own(target, digest, isSociLookup, signal);
    return own === undefined ? [] : [own];
  }

  /**
   * What the upstream lists, or listed last if it does not respond now; its error if it has listed nothing
   * yet.
   * @param canDoWithout an error is as good as a list: no need to wait for a slow upstream
   */
  async #listUpstream(
    target: Target,
    digest: Digest,
    canDoWithout: boolean,
    signal: AbortSignal,
  ): Promise<readonly Descriptor[] | SpandrelError> {
    const key = `${targetKey(target)}@${digest}`;
    const { name } = target.client;
    const work = async (closing: AbortSignal): Promise<readonly Descriptor[]> => {
      const descriptors = await target.client.listReferrers(target.repository, digest, closing);
      this.#lists.set(key, { descriptors, sizeBytes: estimateBytes(descriptors) });
      return descriptors;
    };
    const last = this.#lists.get(key)?.descriptors;
    try {
      if (last === undefined && !canDoWithout) return await this.#flights.run(key, work, signal);
      const found = await this.#flights.runPatiently(key, name, work, signal);
      return (
        found ?? last ?? new SpandrelError('UPSTREAM_TIMEOUT', `upstream ${name} is slow to list referrers`)
      );
    } catch (error) {
      if (!isBrokenTransfer(error) && !isUpstreamAway(error)) throw error;
      this.#deps.logger.warn(
        { upstream: name, digest, code: error.code, isKnown: last !== undefined },
        'the upstream fails to list referrers',
      );
      return last ?? error;
    }
  }

  /** Ends requests that continue in the background. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#flights[Symbol.asyncDispose]();
  }

  async #own(
    target: Target,
    digest: Digest,
    isSociLookup: boolean,
    signal: AbortSignal,
  ): Promise<Descriptor | undefined> {
    const policy = this.#deps.policies.of(target);
    if (!policy.v1) return undefined;
    const holdMs = isSociLookup ? Math.min(policy.holdMs, SNAPSHOTTER_LOOKUP_MS) : policy.holdMs;
    using deadline = new TimeLimit(holdMs);
    try {
      const { manifest } = await this.#deps.manifests.get(target, { digest }, signal);
      return await this.#deps.indexer.sociIndex(target, manifest, 'v1', deadline.with(signal));
    } catch (error) {
      // Both may be over: the error is then that of whichever ended first.
      signal.throwIfAborted();
      if (deadline.isOver) {
        if (isSociLookup) throw new SpandrelError('INDEX_PENDING', 'the SOCI index is being built');
        return undefined;
      }
      // The image can be pulled without an index.
      if (isSpandrelError(error, 'STORE_FULL', 'STORE_FAILED', 'RESOURCE_EXHAUSTED')) {
        this.#deps.logger.warn({ manifest: digest, code: error.code }, 'no SOCI index: it cannot be stored');
        return undefined;
      }
      // A missing manifest or another artifact has an empty list (distribution spec, "Listing Referrers").
      if (isSpandrelError(error, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN', 'IMAGE_UNSUPPORTED')) return undefined;
      // Layers that the registry refuses now must not fail the list; nodes cannot get them either.
      if (isSpandrelError(error, 'DENIED', 'UNAUTHORIZED', 'UPSTREAM_CREDENTIALS_REFUSED')) return undefined;
      throw error;
    }
  }
}

/** Approximate size of a list in memory. */
function estimateBytes(descriptors: readonly Descriptor[]): number {
  let bytes = 0;
  for (const { annotations = {}, data = '' } of descriptors) {
    bytes += DESCRIPTOR_BYTES + data.length;
    for (const [name, value] of Object.entries(annotations)) bytes += name.length + value.length;
  }
  return bytes;
}
