import { setTimeout as pause } from 'node:timers/promises';

import type { BlobReader } from '../../blobs/reads/blob-handle.ts';
import type { BlobStore } from '../../blobs/blob-store.ts';
import { readVerifiedBlob } from '../../blobs/read-verified-blob.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import { Memo } from '../../cache/memo.ts';
import type { RetryPauses } from '../../cache/passing-faults.ts';
import type { Patience } from '../../cache/patience.ts';
import { PatientFlight } from '../../cache/patient-flight.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import { type Digest, isDigest } from '../../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { mapBounded } from '../../core/work/map-bounded.ts';
import { WorkQueue } from '../../core/work/work-queue.ts';
import type { WorkerPool } from '../../threads/worker-pool.ts';
import { INDEX_DIGEST_ANNOTATION } from '../../soci/convert-image.ts';
import { parseSociIndex, type PushedLayer } from '../../soci/parse-soci-index.ts';
import type { PushedZtoc } from '../../layers/layer.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { ZtocJudge } from '../../spans/ztoc-judge.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import { isBrokenTransfer, isUpstreamAway } from '../../upstream/faults/is-upstream-away.ts';
import type { LayerLimits } from '../../build/build-layer.ts';
import type { BlobProofs } from '../proofs/blob-proofs.ts';
import { type ImageManifest, parseManifest, soundDescriptors } from '../documents/parse-manifest.ts';
import type { Manifests } from '../manifests/manifests.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import type * as spanTasks from '../../spans/span-worker.ts';
import type { PushedLists } from './pushed-lists.ts';
import type { ZtocVerdicts } from './ztoc-verdicts.ts';

export interface PushedIndexesDeps {
  readonly manifests: Manifests;
  readonly proofs: BlobProofs;
  readonly blobs: BlobStore;
  readonly indexes: LayerIndexes;
  readonly judge: ZtocJudge;
  /** Threads whose entry is `spans/span-worker.ts`. */
  readonly pool: WorkerPool<typeof spanTasks>;
  readonly limits: LayerLimits;
  /** Results of comparing zTOCs with their layers. */
  readonly verdicts: ZtocVerdicts;
  readonly lists: PushedLists;
  /** Before an index that the upstream does not give in full is looked at again. */
  readonly pauses: RetryPauses;
  /** Bounds the wait for an upstream that is slow to list referrers again. */
  readonly patience: Patience;
  readonly events: Events;
  readonly logger: Logger;
}

/** Result of the validation of one index. */
interface Checked {
  /** Its zTOCs by layer, if all are well-formed. */
  readonly layers: ReadonlyMap<Digest, PushedLayer> | undefined;
  /** True if the bytes of the index and its zTOCs prove the result. */
  readonly isFinal: boolean;
}

/** The index is wrong and stays so: its bytes match its digest. */
const DAMAGE = ['INDEX_MALFORMED', 'INDEX_UNMOUNTABLE'] as const;
/** Some part is not available now. */
const MISSING = [
  'BLOB_CORRUPT',
  'BLOB_UNKNOWN',
  'MANIFEST_UNKNOWN',
  'NAME_UNKNOWN',
  'UNAUTHORIZED',
  'DENIED',
  'UPSTREAM_CREDENTIALS_REFUSED',
] as const;

const MAX_REMEMBERED = 10_000;
/**
 * Per image: a publisher pushes one index, perhaps again with each release of the tool. Each may cost reading
 * all its zTOCs.
 */
const MAX_CANDIDATES = 16;
/** Default limit if `limits.maxTocBytes` is not set; a zTOC has about a hundredth of its layer's size. */
const DEFAULT_MAX_BYTES = 512 * 2 ** 20;
/** Concurrent validations: each holds a zTOC in memory. Fair between repositories. */
const MAX_CHECKS = 2;
const MAX_WAITING_CHECKS = 1000;
/** A zTOC with another span size takes a pass over the layer; nodes wait at most this long for it. */
const JUDGEMENT_MS = 1_000;

/**
 * SOCI indexes that publishers have pushed to upstreams. They are claims. For their image and repository they
 * replace ours as long as they hold: zTOCs are validated when first seen, and compared with the layer once
 * its bytes are here. Our own indexes do not depend on them.
 */
export class PushedIndexes implements AsyncDisposable {
  readonly #deps: PushedIndexesDeps;
  readonly #checks: Memo<Checked>;
  readonly #turns = new WorkQueue({ maxRunning: MAX_CHECKS, maxWaiting: MAX_WAITING_CHECKS });
  readonly #lookUps: PatientFlight<readonly Digest[]>;
  readonly #known = new BoundedMap<{ readonly v1?: Digest; readonly v2?: Digest }>({
    maxEntries: MAX_REMEMBERED,
  });

  constructor(deps: PushedIndexesDeps) {
    this.#deps = deps;
    const isFinal = (checked: Checked): boolean => checked.isFinal;
    const passing = { isFinal, pauses: deps.pauses };
    this.#checks = new Memo('index', deps.events, { maxEntries: MAX_REMEMBERED }, passing);
    this.#lookUps = new PatientFlight('referrers', deps.events, deps.patience);
  }

  /** Those of `listed`, SOCI indexes of one image, that nodes may get now. Considers the first 16. */
  async usable(
    target: Target,
    manifest: ManifestDocument,
    listed: readonly Descriptor[],
    signal?: AbortSignal,
  ): Promise<Descriptor[]> {
    const candidates = listed.slice(0, MAX_CANDIDATES);
    const check = ({ digest }: Descriptor): Promise<unknown> =>
      this.#checkIfAvailable(target, manifest, digest, signal);
    const checked = await mapBounded(candidates, check, { maxRunning: MAX_CHECKS, signal });
    return candidates.filter((_, place) => checked[place] !== undefined);
  }

  /**
   * True if the publisher has pushed a usable index of the image.
   * @throws SpandrelError of the upstream
   */
  async isPushed(target: Target, manifest: ManifestDocument): Promise<boolean> {
    const candidates = await this.#findCandidates(target, manifest);
    const check = (candidate: Digest): Promise<unknown> => this.#check(target, manifest, candidate);
    const isUsable = (layers: unknown): boolean => layers !== undefined;
    const checked = await mapBounded(candidates, check, { maxRunning: MAX_CHECKS, isLast: isUsable });
    return checked.some(isUsable);
  }

  /** Usable indexes that the publisher has pushed; empty if that cannot be determined now. */
  async find(
    target: Target,
    manifest: ManifestDocument,
  ): Promise<{ readonly v1?: Digest; readonly v2?: Digest }> {
    try {
      return (await this.isPushed(target, manifest)) ? this.#knownOf(target, manifest) : {};
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      return {};
    }
  }

  #knownOf(target: Target, { digest }: ManifestDocument): { readonly v1?: Digest; readonly v2?: Digest } {
    return this.#known.get(`${targetKey(target)} ${digest}`) ?? {};
  }

  /**
   * What the upstream has listed recently; its last list if it does not respond.
   * @throws SpandrelError of the upstream if there is no list yet
   */
  async #findCandidates(
    target: Target,
    manifest: ManifestDocument,
    signal?: AbortSignal,
  ): Promise<readonly Digest[]> {
    const key = `${targetKey(target)} ${manifest.digest}`;
    const { lists } = this.#deps;
    const { fresh } = await lists.look(key);
    if (fresh !== undefined) return fresh;
    const work = async (closing: AbortSignal): Promise<readonly Digest[]> => {
      const look = await lists.look(key);
      return look.fresh ?? lists.note(key, await this.#lookUp(target, manifest, closing), look.askedUs);
    };
    const last = await lists.last(key);
    if (last === undefined) return this.#lookUps.run(key, work, signal);
    try {
      return (await this.#lookUps.runPatiently(key, target.client.name, work, signal)) ?? last;
    } catch (error) {
      if (!isUpstreamAway(error) && !isBrokenTransfer(error)) throw error;
      return last;
    }
  }

  /** The SOCI v2 index that a manifest names, then the v1 indexes that refer to it. */
  async #lookUp(target: Target, manifest: ManifestDocument, closing: AbortSignal): Promise<Digest[]> {
    const parsed = parseManifest(manifest);
    const named = parsed.kind === 'image' ? parsed.annotations?.[INDEX_DIGEST_ANNOTATION] : undefined;
    const referrers = await target.client.listReferrers(target.repository, manifest.digest, closing);
    const v1 = referrers.filter(({ artifactType }) => artifactType === MEDIA_TYPES.sociIndexV1);
    const found = [
      ...(typeof named === 'string' && isDigest(named) ? [named] : []),
      ...v1.map(({ digest }) => digest),
    ];
    return found.slice(0, MAX_CANDIDATES);
  }

  /** The zTOCs of a pushed index, if all are well-formed and none is known to be wrong. */
  async #check(
    target: Target,
    manifest: ManifestDocument,
    index: Digest,
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<Digest, PushedLayer> | undefined> {
    const key = `${targetKey(target)} ${manifest.digest} ${index}`;
    const check = (): Promise<Checked> => this.#checkAll(target, manifest, index);
    const { layers } = await this.#checks.get(key, check, signal);
    if (layers === undefined) return undefined;
    const isWrong = Array.from(layers.values(), (pushed) => this.#isWrong(target, pushed));
    return (await Promise.all(isWrong)).includes(true) ? undefined : layers;
  }

  /**
   * True if the bytes of the layer have shown that a zTOC is wrong. If the layer is indexed and the zTOC was
   * not compared yet, starts the comparison and waits briefly for it.
   */
  async #isWrong(target: Target, pushed: PushedLayer): Promise<boolean> {
    const { indexes, judge, proofs, verdicts } = this.#deps;
    const known = await verdicts.find(pushed);
    if (known !== undefined) return known.problem !== undefined;
    const index = await indexes.find(pushed.layer);
    if (index === undefined || index.summary.compression === 'zstd') return false;
    const layer = { digest: pushed.layer, source: proofs.source(target, pushed.layer) };
    const judging = judge.run(layer, pushed.ztoc, async (ending) => {
      // The result reveals facts about the layer, so the repository must have it.
      await proofs.authorize(target, pushed.layer, ending);
      return this.#open(target, pushed, ending);
    });
    const patience = new AbortController();
    await Promise.race([judging, pause(JUDGEMENT_MS, undefined, { signal: patience.signal, ref: false })]);
    patience.abort();
    return (await verdicts.find(pushed))?.problem !== undefined;
  }

  async #note(pushed: PushedLayer, problem: string | undefined): Promise<void> {
    const { logger, verdicts } = this.#deps;
    if (problem !== undefined)
      logger.warn({ ztoc: pushed.ztoc, cause: problem }, 'a pushed zTOC is wrong, ours is used');
    await verdicts.note(pushed, { problem });
  }

  /** As {@link #check}, but an index that cannot be read now counts as unusable. */
  async #checkIfAvailable(
    target: Target,
    manifest: ManifestDocument,
    index: Digest,
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<Digest, PushedLayer> | undefined> {
    try {
      return await this.#check(target, manifest, index, signal);
    } catch (error) {
      if (!isUpstreamAway(error) && !isBrokenTransfer(error)) throw error;
      this.#deps.logger.debug({ index, code: error.code }, 'a pushed SOCI index cannot be read now');
      return undefined;
    }
  }

  async #checkAll(target: Target, manifest: ManifestDocument, index: Digest): Promise<Checked> {
    try {
      const image = parseManifest(manifest);
      if (image.kind !== 'image') return { layers: undefined, isFinal: true };
      const found = await this.#deps.manifests.get(target, { digest: index });
      const { version, layers } = parseSociIndex(found.manifest.bytes, manifest.digest);
      if (layers.length > image.layers.length)
        throw new SpandrelError('INDEX_MALFORMED', 'the SOCI index has more zTOCs than the image has layers');
      // If an image has a layer twice, the index may list its zTOC twice.
      const distinct = new Map(layers.map((layer) => [`${layer.layer} ${layer.ztoc}`, layer]));
      for (const layer of distinct.values())
        await this.#turns.run(() => this.#validateZtoc(target, image, layer), undefined, targetKey(target));
      const known = { ...this.#knownOf(target, manifest), [version]: index };
      this.#known.set(`${targetKey(target)} ${manifest.digest}`, known);
      return { layers: new Map(layers.map((layer) => [layer.layer, layer])), isFinal: true };
    } catch (error) {
      if (!isSpandrelError(error, ...DAMAGE, ...MISSING)) throw error;
      const isFinal = isSpandrelError(error, ...DAMAGE);
      this.#deps.logger.warn(
        { manifest: manifest.digest, index, code: error.code, cause: error.message },
        `a pushed SOCI index is ${isFinal ? 'damaged' : 'incomplete'}; ours is used`,
      );
      return { layers: undefined, isFinal };
    }
  }

  async #validateZtoc(
    target: Target,
    image: ImageManifest,
    { layer, ztoc, sizeBytes }: PushedLayer,
  ): Promise<void> {
    const known = soundDescriptors(image.layers).find(({ digest }) => digest === layer);
    if (known === undefined)
      throw new SpandrelError('INDEX_MALFORMED', 'the SOCI index names a layer that is not in the image');
    const bytes = await this.#readZtoc(target, ztoc, sizeBytes);
    await this.#deps.pool.tasks.validateZtoc({ bytes, layerBytes: known.size, limits: this.#deps.limits });
  }

  async #readZtoc(target: Target, ztoc: Digest, sizeBytes: number, signal?: AbortSignal): Promise<Buffer> {
    const { maxTocBytes: maxBytes = DEFAULT_MAX_BYTES } = this.#deps.limits;
    if (sizeBytes > maxBytes) throw new SpandrelError('INDEX_MALFORMED', 'a zTOC is too large');
    const { blobs, proofs } = this.#deps;
    const source = proofs.source(target, ztoc);
    const open = async (): Promise<BlobReader> => {
      if (blobs.stat(ztoc, source.upstream) !== undefined) await proofs.authorize(target, ztoc, signal);
      return blobs.readBlob(ztoc, source, { claimedBytes: sizeBytes, signal });
    };
    return readVerifiedBlob(blobs, ztoc, open, { maxBytes, code: 'INDEX_MALFORMED' }, signal);
  }

  async #open(target: Target, pushed: PushedLayer, signal: AbortSignal): Promise<PushedZtoc> {
    const { ztoc, sizeBytes } = pushed;
    return {
      digest: ztoc,
      bytes: await this.#readZtoc(target, ztoc, sizeBytes, signal),
      judge: (problem) => this.#note(pushed, problem),
    };
  }

  /** Ends requests that continue in the background. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#lookUps[Symbol.asyncDispose]();
  }
}
