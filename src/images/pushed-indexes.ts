import type { BlobReader } from '../blobs/blob-handle.ts';
import type { BlobStore } from '../blobs/blob-store.ts';
import { readVerifiedBlob } from '../blobs/read-verified-blob.ts';
import type { DigestFiles } from '../blobs/digest-files.ts';
import { BoundedMap } from '../cache/bounded-map.ts';
import { Memo } from '../cache/memo.ts';
import type { Descriptor } from '../core/descriptor.ts';
import { type Digest, isDigest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';
import type { WorkerPool } from '../threads/worker-pool.ts';
import { INDEX_DIGEST_ANNOTATION } from '../soci/convert-image.ts';
import { parseSociIndex, type PushedLayer } from '../soci/parse-soci-index.ts';
import type { PushedZtoc } from '../spans/layer.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { LayerLimits } from '../ztoc/layer-builder.ts';
import type { KnownLayers } from './known-layers.ts';
import { type ImageManifest, parseManifest, soundDescriptors, type StoredManifest } from './manifest.ts';
import type { Manifests } from './manifests.ts';
import { type Target, targetKey } from './target.ts';

export interface PushedIndexesDeps {
  readonly manifests: Manifests;
  readonly knownLayers: KnownLayers;
  readonly blobs: BlobStore;
  /** Threads whose entry is `ztoc/span-worker.ts`. */
  readonly pool: WorkerPool;
  readonly limits: LayerLimits;
  /** zTOCs that turned out to be wrong, by their digests, with the reason. */
  readonly refused: DigestFiles;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** Outcome of the checks of one index. */
interface Checked {
  /** Its zTOCs by layer, if all are well-formed. */
  readonly layers: ReadonlyMap<Digest, PushedLayer> | undefined;
}

/** Not what a SOCI index of this image should be, and that will not change. */
const DAMAGE = [
  'INDEX_MALFORMED',
  'INDEX_UNMOUNTABLE',
  'BLOB_CORRUPT',
  'BLOB_UNKNOWN',
  'MANIFEST_UNKNOWN',
] as const;

const MAX_REMEMBERED = 10_000;
/** A zTOC is about a hundredth of its layer; nothing larger is taken into memory. */
const MAX_ZTOC_BYTES = 512 * 2 ** 20;
/** An upstream that hangs must not hold up the first bytes of a layer. */
const LOOKUP_MS = 5_000;

/**
 * SOCI indexes that somebody has pushed to an upstream. They are the publisher's word and are used instead of ours, as long as
 * they are what they say: well-formed when they are first seen, and true when the bytes of a layer have passed through.
 */
export class PushedIndexes {
  readonly #deps: PushedIndexesDeps;
  readonly #checks: Memo<Checked>;
  readonly #candidates: Memo<readonly Digest[]>;
  readonly #known = new BoundedMap<{ readonly v1?: Digest; readonly v2?: Digest }>({
    maxEntries: MAX_REMEMBERED,
  });

  constructor(deps: PushedIndexesDeps) {
    this.#deps = deps;
    this.#checks = new Memo('index', deps.metrics, { maxEntries: MAX_REMEMBERED });
    this.#candidates = new Memo('index', deps.metrics, { maxEntries: MAX_REMEMBERED });
  }

  /** Those of `candidates`, SOCI indexes of one image, that can be offered to nodes. */
  async usable(
    target: Target,
    manifest: StoredManifest,
    candidates: readonly Descriptor[],
    signal?: AbortSignal,
  ): Promise<Descriptor[]> {
    const checked = await Promise.all(
      candidates.map(({ digest }) => this.#check(target, manifest, digest, signal)),
    );
    return candidates.filter((_, place) => checked[place] !== undefined);
  }

  /** True if the publisher of an image has pushed an index of it that can be used. @throws SpandrelError as the upstream answers */
  async isPushed(target: Target, manifest: StoredManifest): Promise<boolean> {
    const candidates = await this.#findCandidates(target, manifest);
    const checked = await Promise.all(
      candidates.map((candidate) => this.#check(target, manifest, candidate)),
    );
    return checked.some((layers) => layers !== undefined);
  }

  /** Those that have been seen of an image, and found well-formed. */
  known(target: Target, manifest: Digest): { readonly v1?: Digest; readonly v2?: Digest } {
    return this.#known.get(`${targetKey(target)} ${manifest}`) ?? {};
  }

  /** A zTOC that the publisher of an image has pushed for one of its layers. Never rejects: without one the proxy makes its own. */
  async findZtoc(target: Target, layer: Digest): Promise<PushedZtoc | undefined> {
    const manifestDigest = this.#deps.knownLayers.get(layer)?.manifest;
    if (manifestDigest === undefined) return undefined;
    const signal = AbortSignal.timeout(LOOKUP_MS);
    try {
      const { manifest } = await this.#deps.manifests.get(target, { digest: manifestDigest }, signal);
      for (const candidate of await this.#findCandidates(target, manifest, signal)) {
        const pushed = (await this.#check(target, manifest, candidate, signal))?.get(layer);
        if (pushed !== undefined) return await this.#open(target, pushed, signal);
      }
    } catch (error) {
      if (!isSpandrelError(error) && !signal.aborted) throw error;
      this.#deps.logger.debug({ layer, cause: String(error) }, 'no pushed index');
    }
    return undefined;
  }

  /** The upstream is asked once for each image. */
  #findCandidates(
    target: Target,
    manifest: StoredManifest,
    signal?: AbortSignal,
  ): Promise<readonly Digest[]> {
    const key = `${targetKey(target)} ${manifest.digest}`;
    return this.#candidates.get(key, () => this.#lookUp(target, manifest), signal);
  }

  /** The SOCI v2 index that a manifest names, then the v1 ones that refer to it. */
  async #lookUp(target: Target, manifest: StoredManifest): Promise<Digest[]> {
    const parsed = parseManifest(manifest);
    const named = parsed.kind === 'image' ? parsed.annotations?.[INDEX_DIGEST_ANNOTATION] : undefined;
    const referrers = await target.client.listReferrers(target.repository, manifest.digest);
    const v1 = referrers.filter(({ artifactType }) => artifactType === MEDIA_TYPES.sociIndexV1);
    return [
      ...(typeof named === 'string' && isDigest(named) ? [named] : []),
      ...v1.map(({ digest }) => digest),
    ];
  }

  /** The zTOCs of a pushed index, if all are well-formed and none has been refused. */
  async #check(
    target: Target,
    manifest: StoredManifest,
    index: Digest,
    signal?: AbortSignal,
  ): Promise<ReadonlyMap<Digest, PushedLayer> | undefined> {
    const key = `${targetKey(target)} ${manifest.digest} ${index}`;
    const check = async (): Promise<Checked> => ({ layers: await this.#checkAll(target, manifest, index) });
    const { layers } = await this.#checks.get(key, check, signal);
    if (layers === undefined) return undefined;
    const refused = await Promise.all(
      Array.from(layers.values(), ({ ztoc }) => this.#deps.refused.has(ztoc)),
    );
    return refused.includes(true) ? undefined : layers;
  }

  async #checkAll(
    target: Target,
    manifest: StoredManifest,
    index: Digest,
  ): Promise<ReadonlyMap<Digest, PushedLayer> | undefined> {
    try {
      const image = parseManifest(manifest);
      if (image.kind !== 'image') return undefined;
      const found = await this.#deps.manifests.get(target, { digest: index });
      const { version, layers } = parseSociIndex(found.manifest.bytes, manifest.digest);
      await Promise.all(layers.map((layer) => this.#checkZtoc(target, image, layer)));
      const known = { ...this.known(target, manifest.digest), [version]: index };
      this.#known.set(`${targetKey(target)} ${manifest.digest}`, known);
      return new Map(layers.map((layer) => [layer.layer, layer]));
    } catch (error) {
      // What could not be fetched now may be there the next time.
      if (!isSpandrelError(error, ...DAMAGE)) throw error;
      this.#deps.logger.warn(
        { manifest: manifest.digest, index, code: error.code, cause: error.message },
        'a pushed SOCI index is damaged, ours is used',
      );
      return undefined;
    }
  }

  async #checkZtoc(
    target: Target,
    image: ImageManifest,
    { layer, ztoc, sizeBytes }: PushedLayer,
  ): Promise<void> {
    const known = soundDescriptors(image.layers).find(({ digest }) => digest === layer);
    if (known === undefined)
      throw new SpandrelError('INDEX_MALFORMED', 'the SOCI index names a layer that the image has not got');
    const bytes = await this.#readZtoc(target, ztoc, sizeBytes);
    await this.#deps.pool.run('checkZtoc', { bytes, layerBytes: known.size, limits: this.#deps.limits });
  }

  async #readZtoc(target: Target, ztoc: Digest, sizeBytes: number, signal?: AbortSignal): Promise<Buffer> {
    if (sizeBytes > MAX_ZTOC_BYTES) throw new SpandrelError('INDEX_MALFORMED', 'a zTOC is too large');
    const source = target.client.blobSource(target.repository, ztoc);
    const { blobs } = this.#deps;
    const open = (): Promise<BlobReader> => blobs.readBlob(ztoc, source, { sizeBytes, signal });
    return readVerifiedBlob(blobs, ztoc, open, signal);
  }

  async #open(target: Target, { ztoc, sizeBytes }: PushedLayer, signal: AbortSignal): Promise<PushedZtoc> {
    return {
      digest: ztoc,
      bytes: await this.#readZtoc(target, ztoc, sizeBytes, signal),
      refuse: async (reason) => {
        this.#deps.logger.warn({ ztoc, cause: reason }, 'a pushed zTOC is wrong, ours is used');
        await this.#deps.refused.tryWrite(ztoc, Buffer.from(reason));
      },
    };
  }
}
