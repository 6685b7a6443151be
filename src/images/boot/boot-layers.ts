import { readVerifiedBlob } from '../../blobs/read-verified-blob.ts';
import type { BlobStore } from '../../blobs/blob-store.ts';
import { BoundedMap } from '../../cache/bounded-map.ts';
import { SingleFlight } from '../../cache/single-flight.ts';
import { type BootProfile, type BootProfiles, isLearned } from '../../boot/boot-profile.ts';
import { chooseBootFiles, leaveOutOldest } from '../../boot/layer/choose-boot-files.ts';
import { extendConfig } from '../../boot/layer/extend-config.ts';
import { bootLayerLimit, makeBootLayer } from '../../boot/layer/make-boot-layer.ts';
import type { BootPool } from '../../boot/layer/pack-boot-tar.ts';
import type { Digest } from '../../core/digest.ts';
import { digestOf } from '../../core/digest.ts';
import { ERRORS, type ErrorCode, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import { layerFault } from '../../index/layer-summary.ts';
import { GZIP_PACKER } from '../../inflate/gzip-packer.ts';
import type { LayerIndexes } from '../../layers/layer-indexes.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Logger } from '../../telemetry/logger.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import { type ImageManifest, isSound, tryParseManifest } from '../documents/parse-manifest.ts';
import type { IndexPolicies } from '../lazy/index-policy.ts';
import type { ImageBootLayers } from '../lazy/lazy-images.ts';
import type { Layers } from '../lazy/layers.ts';
import type { BootRecipe } from '../proofs/boot-recipe.ts';
import type { BootAnswers } from '../proofs/boot-answers.ts';
import type { BootAnswer } from '../proofs/boot-records.ts';
import type { BootBlobs } from './boot-blobs.ts';

export interface BootLayersDeps {
  readonly bootAnswers: BootAnswers;
  readonly profiles: BootProfiles;
  readonly blobs: BlobStore;
  readonly bootBlobs: BootBlobs;
  readonly layers: Layers;
  readonly indexes: LayerIndexes;
  readonly policies: IndexPolicies;
  readonly pool: BootPool;
  /** Memory that a merged file system may take. */
  readonly maxTreeBytes: number;
  readonly events: Events;
  readonly logger: Logger;
}

const MAX_REFUSED = 10_000;
const MAX_STEPS = 20_000_000;
const CONFIG_LIMIT = { maxBytes: 4 * 2 ** 20, code: 'IMAGE_UNSUPPORTED' } as const;

/**
 * Decides which images get boot layers, and makes them. An answer that a tag has given stays: a boot layer
 * that is made later is for images that no tag has answered yet, or, where a rule says `now`, for all.
 */
export class BootLayers implements ImageBootLayers {
  readonly #deps: BootLayersDeps;
  readonly #flights: SingleFlight<void>;
  /** Images that cannot have one, by the starts of the profile with which that was tried. */
  readonly #refused = new BoundedMap<{ readonly starts: number }>({ maxEntries: MAX_REFUSED });

  constructor(deps: BootLayersDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('index', deps.events);
  }

  answerOf(target: Target, image: Digest): BootAnswer | undefined {
    return this.#deps.bootAnswers.known(target, image);
  }

  async isPending(target: Target, { digest }: ManifestDocument): Promise<boolean> {
    const { bootAnswers, policies } = this.#deps;
    if (policies.of(target).bootLayer === 'off') return false;
    if ((await bootAnswers.find(target, digest)) !== undefined) return false;
    return (await this.#wantedProfile(target, digest)) !== undefined;
  }

  /** That of an image that was answered without one is made in the background. */
  async prepare(target: Target, manifest: ManifestDocument): Promise<void> {
    const { bootAnswers, policies } = this.#deps;
    const { bootLayer } = policies.of(target);
    if (bootLayer === 'off') return;
    const answer = await bootAnswers.find(target, manifest.digest, bootLayer === 'now');
    if (answer !== undefined && (answer !== 'none' || bootLayer === 'next')) return;
    const profile = await this.#wantedProfile(target, manifest.digest);
    if (profile === undefined) return;
    const key = imageKey(target, manifest.digest);
    const making = this.#flights.run(key, () => this.#makeOrRefuse(target, manifest, profile));
    if (answer === undefined) await making;
    else making.catch(() => undefined);
  }

  async noteAnswered(target: Target, { digest }: ManifestDocument): Promise<void> {
    const { bootAnswers, policies } = this.#deps;
    if (policies.of(target).bootLayer !== 'off' && this.answerOf(target, digest) === undefined)
      await bootAnswers.put(target, digest, 'none');
  }

  /**
   * The config of an image with its boot layer.
   * @throws SpandrelError BLOB_UNKNOWN, IMAGE_UNSUPPORTED; BLOB_CORRUPT if it became another one
   */
  async readConfig(
    target: Target,
    recipe: BootRecipe,
    image: ImageManifest,
    signal: AbortSignal,
  ): Promise<Buffer> {
    const original = await this.#originalConfig(target, image, signal);
    const config = extendConfig(original, recipe.diffId, image.layers.length);
    if (digestOf(config) === recipe.config.digest) return config;
    throw new SpandrelError('BLOB_CORRUPT', 'the config of a boot layer became another one');
  }

  /** The profile for a boot layer of an image; `undefined` if it should have none now. */
  async #wantedProfile(target: Target, image: Digest): Promise<BootProfile | undefined> {
    const profile = await this.#deps.profiles.read(target);
    if (!isLearned(profile)) return undefined;
    const refused = this.#refused.get(imageKey(target, image));
    return refused === undefined || profile.starts > 2 * refused.starts ? profile : undefined;
  }

  async #makeOrRefuse(target: Target, manifest: ManifestDocument, profile: BootProfile): Promise<void> {
    const { events, logger } = this.#deps;
    const signal = new AbortController().signal;
    const refuse = (reason: string): void => {
      this.#refused.set(imageKey(target, manifest.digest), { starts: profile.starts });
      events.boot.layerMade('refused');
      logger.info({ image: manifest.digest, reason }, 'an image gets no boot layer');
    };
    try {
      const recipe = await this.#make(target, manifest, profile, signal);
      if (recipe === undefined) return refuse('no file fits');
      await this.#deps.bootAnswers.put(target, manifest.digest, recipe);
      events.boot.layerMade('made');
    } catch (error) {
      if (isSpandrelError(error) && isLasting(error.code)) return refuse(error.code);
      events.boot.layerMade('failed');
      throw error;
    }
  }

  async #make(
    target: Target,
    manifest: ManifestDocument,
    profile: BootProfile,
    signal: AbortSignal,
  ): Promise<BootRecipe | undefined> {
    const { layers, indexes, policies, pool, bootBlobs, maxTreeBytes } = this.#deps;
    const image = tryParseManifest(manifest);
    if (image?.kind !== 'image') return undefined;
    const listed = image.layers.filter(isSound);
    if (listed.length < image.layers.length)
      throw new SpandrelError('IMAGE_UNSUPPORTED', 'the manifest lists a faulty layer');
    for (const digest of new Set(listed.map((layer) => layer.digest))) {
      const fault = layerFault((await layers.index(target, digest)).summary);
      if (fault !== undefined) throw new SpandrelError(fault.code, fault.message);
    }
    const wanted = leaveOutOldest(chooseBootFiles(profile)).map(({ path }) => path);
    const fairnessKey = targetKey(target);
    const copies = await pool.tasks.findInIndexes(
      {
        layers: listed.map(({ digest }) => ({ digest, indexPath: indexes.filePath(digest) })),
        wanted,
        maxSize: { bytes: maxTreeBytes, steps: MAX_STEPS },
      },
      { fairnessKey },
    );
    const imageBytes = listed.reduce((sum, { size }) => sum + size, 0);
    const most = bootLayerLimit(imageBytes, policies.of(target).bootLayerBytes);
    const made = await makeBootLayer(copies, most, (plan, maxBytes) =>
      bootBlobs.pack(target, plan, maxBytes, signal),
    );
    if (made === undefined) return undefined;
    const { plan, packed } = made;
    const original = await this.#originalConfig(target, image, signal);
    const config = extendConfig(original, packed.plainDigest, image.layers.length);
    await bootBlobs.put(packed.digest, packed.bytes, signal);
    return {
      image: manifest.digest,
      layer: { digest: packed.digest, size: packed.bytes.byteLength },
      diffId: packed.plainDigest,
      config: { digest: digestOf(config), size: config.byteLength },
      compressor: GZIP_PACKER,
      files: plan.files,
      layers: plan.layers,
      entries: plan.entries,
    };
  }

  async #originalConfig(target: Target, { config }: ImageManifest, signal: AbortSignal): Promise<Buffer> {
    if (config === undefined || config.size > CONFIG_LIMIT.maxBytes)
      throw new SpandrelError('IMAGE_UNSUPPORTED', 'the image has no config');
    const { blobs, layers } = this.#deps;
    const open = (): ReturnType<Layers['readBlob']> => layers.readBlob(target, config.digest, { signal });
    return readVerifiedBlob(blobs, config.digest, open, CONFIG_LIMIT, signal);
  }
}

/** Faults that another attempt does not mend: the image is then answered without a boot layer. */
function isLasting(code: ErrorCode): boolean {
  return !ERRORS[code].retryable;
}

function imageKey(target: Target, image: Digest): string {
  return `${targetKey(target)} ${image}`;
}
