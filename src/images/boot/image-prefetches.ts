import { type BootProfile, type BootProfiles, isLearned } from '../../boot/boot-profile.ts';
import type { BootPool } from '../../boot/layer/pack-boot-tar.ts';
import { choosePrefetchFiles } from '../../boot/prefetch/choose-prefetch-files.ts';
import {
  choosePrefetchSpans,
  type LocatedLayer,
  MAX_PREFETCH_BYTES,
} from '../../boot/prefetch/choose-prefetch-spans.ts';
import { SingleFlight } from '../../cache/single-flight.ts';
import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { ZtocStore } from '../../layers/ztoc-store.ts';
import { encodePrefetch } from '../../soci/plan-prefetch.ts';
import type { PrefetchArtifact } from '../../soci/soci-index.ts';
import type { RawText } from '../../tar/raw-text.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import type { PrefetchAnswers } from '../proofs/prefetch-answers.ts';
import type { PrefetchKey, PrefetchRecord, RecordedPrefetch } from '../proofs/prefetch-record.ts';
import type { IndexPolicies } from '../lazy/index-policy.ts';
import type { IndexedLayer, Prefetches } from '../lazy/layer-kind.ts';

export interface ImagePrefetchesDeps {
  readonly prefetchAnswers: PrefetchAnswers;
  readonly profiles: BootProfiles;
  /** zTOCs of layers, and those over their tars. */
  readonly ztocs: readonly ZtocStore[];
  readonly policies: IndexPolicies;
  readonly pool: BootPool;
  readonly events: Events;
  readonly logger: Logger;
}

/**
 * Decides which prefetch artifacts the SOCI index of an image lists, once: when the index is first named.
 * What its repository has learned by then counts.
 */
export class ImagePrefetches implements Prefetches {
  readonly #deps: ImagePrefetchesDeps;
  readonly #flights: SingleFlight<PrefetchRecord>;

  constructor(deps: ImagePrefetchesDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('index', deps.events);
  }

  /** Does not fail for want of a profile or a zTOC: the index is worth more. */
  async of(
    target: Target,
    key: PrefetchKey,
    layers: readonly IndexedLayer[],
  ): Promise<readonly PrefetchArtifact[]> {
    const { policies, prefetchAnswers } = this.#deps;
    if (policies.of(target).prefetch === 'off') return [];
    const decide = async (): Promise<PrefetchRecord> =>
      prefetchAnswers.put(target, { ...key, artifacts: await this.#plan(target, layers) });
    const record =
      (await prefetchAnswers.find(target, key)) ??
      (await this.#flights.run(`${targetKey(target)} ${key.image} ${key.kind}`, decide));
    return layers.flatMap(
      ({ soci }) => record.artifacts.find(({ layerDigest }) => layerDigest === soci.layer.digest) ?? [],
    );
  }

  async #plan(target: Target, layers: readonly IndexedLayer[]): Promise<readonly RecordedPrefetch[]> {
    const { profiles, events, logger } = this.#deps;
    try {
      const profile = await profiles.read(target);
      if (isLearned(profile)) return await this.#planFrom(profile, target, layers);
      events.boot.prefetchPlanned('no_profile');
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      logger.warn({ err: error, repository: targetKey(target) }, 'an image gets no prefetch artifacts');
      events.boot.prefetchPlanned('failed');
    }
    return [];
  }

  async #planFrom(
    profile: BootProfile,
    target: Target,
    layers: readonly IndexedLayer[],
  ): Promise<readonly RecordedPrefetch[]> {
    const files = choosePrefetchFiles(profile);
    const located = await this.#locate(new Set(files), target, layers);
    const { runs, bytes } = choosePrefetchSpans(files, located, MAX_PREFETCH_BYTES);
    this.#deps.events.boot.prefetchPlanned(bytes === 0 ? 'no_files' : 'planned', bytes);
    const originals = new Map(layers.map(({ soci, original }) => [soci.layer.digest, original]));
    return [...originals].flatMap(([digest, original]) => {
      const artifact = encodePrefetch(digest, runs.get(digest) ?? []);
      return artifact === undefined ? [] : [{ ...artifact, original }];
    });
  }

  /** Looks for files from the top layer down, in one zTOC at a time. A lost zTOC has none. */
  async #locate(
    left: Set<RawText>,
    target: Target,
    layers: readonly IndexedLayer[],
  ): Promise<readonly LocatedLayer[]> {
    const located: LocatedLayer[] = [];
    for (const { soci } of layers.toReversed()) {
      if (left.size === 0) break;
      const ztoc = await this.#readZtoc(soci.ztoc.digest);
      if (ztoc === undefined) continue;
      const fairnessKey = targetKey(target);
      const found = await this.#deps.pool.tasks.locateInZtoc({ ztoc, paths: left }, { fairnessKey });
      for (const path of found.files.keys()) left.delete(path);
      located.push({ ...found, digest: soci.layer.digest });
    }
    return located;
  }

  async #readZtoc(digest: Digest): Promise<Buffer | undefined> {
    for (const ztocs of this.#deps.ztocs) {
      const bytes = await ztocs.read(digest);
      if (bytes !== undefined) return bytes;
    }
    return undefined;
  }
}
