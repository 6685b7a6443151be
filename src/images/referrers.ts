import type { Descriptor } from '../core/descriptor.ts';
import type { Digest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { IndexPolicies } from './index-policy.ts';
import type { Manifests } from './manifests.ts';
import type { PushedIndexes } from './pushed-indexes.ts';
import type { SociIndexer } from './soci-indexer.ts';
import type { Target } from './target.ts';

export interface ReferrersDeps {
  readonly manifests: Manifests;
  readonly indexer: SociIndexer;
  readonly pushed: PushedIndexes;
  readonly policies: IndexPolicies;
  readonly logger: Logger;
}

/**
 * The snapshotter gives up on an answer whose head takes 3 s and asks again after a 503 (soci-snapshotter
 * `config/defaults.go`, `service/resolver/client.go`), so a lookup of an index is held for less than that.
 */
const SNAPSHOTTER_HOLD_MS = 2_500;

/** Referrers of a manifest: the upstream's own, and our SOCI v1 index. */
export class Referrers {
  readonly #deps: ReferrersDeps;

  constructor(deps: ReferrersDeps) {
    this.#deps = deps;
  }

  /**
   * All referrers, or those of the given artifact types.
   * @throws SpandrelError INDEX_PENDING if only a SOCI index is asked for and it takes longer to build than may be waited
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
    const listed = await this.#upstream(target, digest, signal);
    if (!isWanted({ artifactType: MEDIA_TYPES.sociIndexV1 })) return listed.filter(isWanted);
    const others = listed.filter(({ artifactType }) => artifactType !== MEDIA_TYPES.sociIndexV1);
    const indexes = await this.#sociIndexes(target, digest, listed, isSociLookup, signal);
    return [...others, ...indexes].filter(isWanted);
  }

  /** What a pipeline has pushed is the publisher's word, and ours would only be a second one; damaged ones are left out. */
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

  async #upstream(target: Target, digest: Digest, signal: AbortSignal): Promise<Descriptor[]> {
    try {
      return await target.client.listReferrers(target.repository, digest, signal);
    } catch (error) {
      if (!isSpandrelError(error) || error.code === 'UNAUTHORIZED' || error.code === 'DENIED') throw error;
      // Lazy loading must not depend on whether an upstream knows referrers.
      this.#deps.logger.debug(
        { upstream: target.client.name, code: error.code },
        'no referrers from the upstream',
      );
      return [];
    }
  }

  async #own(
    target: Target,
    digest: Digest,
    isSociLookup: boolean,
    signal: AbortSignal,
  ): Promise<Descriptor | undefined> {
    const policy = this.#deps.policies.of(target);
    if (!policy.v1) return undefined;
    const holdMs = isSociLookup ? Math.min(policy.holdMs, SNAPSHOTTER_HOLD_MS) : policy.holdMs;
    const deadline = AbortSignal.timeout(holdMs);
    try {
      const { manifest } = await this.#deps.manifests.get(target, { digest }, signal);
      return await this.#deps.indexer.sociIndex(target, manifest, 'v1', AbortSignal.any([signal, deadline]));
    } catch (error) {
      if (deadline.aborted && !signal.aborted) {
        if (isSociLookup) throw new SpandrelError('INDEX_PENDING', 'the SOCI index is being built');
        return undefined;
      }
      // Referrers of what is not there, or is no image, are an empty list: distribution spec, "Listing Referrers".
      if (isSpandrelError(error, 'MANIFEST_UNKNOWN', 'NAME_UNKNOWN', 'IMAGE_UNSUPPORTED')) return undefined;
      throw error;
    }
  }
}
