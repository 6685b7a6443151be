import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import { formatPlatform, type Platform } from '../../core/platform.ts';
import { type ErrorCode, SpandrelError } from '../../core/errors.ts';
import type { Digest } from '../../core/digest.ts';
import type { Reference } from '../../core/image-reference.ts';
import { mapBounded } from '../../core/work/map-bounded.ts';
import type { ImageConfig } from '../documents/image-config.ts';
import type { ImageConfigs } from '../manifests/image-configs.ts';
import { type IndexPolicies, servesTars } from '../lazy/index-policy.ts';
import type { BootLayers } from '../boot/boot-layers.ts';
import type { LayerDescription, Layers } from '../lazy/layers.ts';
import type { ImageManifests } from '../manifests/image-manifests.ts';
import { type FaultyDescriptor, parseManifest, tryParseManifest } from '../documents/parse-manifest.ts';
import type { Manifests } from '../manifests/manifests.ts';
import { isImageManifest } from '../documents/order-by-platform.ts';
import type { PullCounts, PullLog } from './pull-log.ts';
import type { PushedIndexes } from '../lazy/pushed-indexes.ts';
import type { SociIndexer, SociIndexOfImage } from '../lazy/soci-indexer.ts';
import type { Target } from '../../upstream/target.ts';

export interface ImageOverviewDeps {
  readonly manifests: Pick<Manifests, 'get'>;
  readonly images: ImageManifests;
  readonly layers: Layers;
  readonly configs: ImageConfigs;
  readonly indexer: SociIndexer;
  /** Of the `inflated` form. */
  readonly inflatedIndexer: SociIndexer;
  readonly pushed: PushedIndexes;
  readonly bootLayers: BootLayers;
  readonly policies: IndexPolicies;
  readonly pullLog: PullLog;
}

export interface PlatformDescription {
  /** `os/arch[/variant]`; null if neither index nor config has it. */
  readonly platform: string | null;
  readonly manifest: Digest;
  readonly layers: readonly LayerDescription[];
  /** The layer with copies of boot files that tags add, if they do. */
  readonly bootLayer?: { readonly digest: Digest; readonly size: number; readonly files: number };
  /** Clients that have pulled the image lazily, and those that have pulled it in full. */
  readonly pulls: PullCounts;
  readonly soci: { readonly v1?: Digest; readonly v2?: Digest };
  /** Why no node can use the image: its manifest or its config cannot be read. */
  readonly reason?: ErrorCode;
}

export interface ImageDescription {
  readonly digest: Digest;
  readonly platforms: readonly PlatformDescription[];
  /** Manifests that the index lists and the registry lacks. */
  readonly absent?: readonly { readonly platform: string | null; readonly manifest: Digest }[];
}

/** Most distinct manifests and layers of one image: each may cost a request. */
const MAX_PARTS = 1000;
/** Most manifests and layers in a response: an index may list the same image many times. */
const MAX_SHOWN = 10_000;
/** Concurrent requests for one image. */
const MAX_RUNNING = 8;

/** Describes which parts of an image are indexed. */
export class ImageOverview {
  readonly #deps: ImageOverviewDeps;

  constructor(deps: ImageOverviewDeps) {
    this.#deps = deps;
  }

  /**
   * @throws SpandrelError IMAGE_UNSUPPORTED for more than 1000 manifests and layers; errors of
   * `Manifests.get`
   */
  async describe(target: Target, reference: Reference, signal: AbortSignal): Promise<ImageDescription> {
    const { manifest } = await this.#deps.manifests.get(target, reference, signal);
    const parsed = parseManifest(manifest);
    const inspection: Inspection = {
      target,
      signal,
      configs: new Map(),
      layers: new Map(),
      parts: new Set(),
      shown: 0,
    };
    if (parsed.kind === 'image')
      return {
        digest: manifest.digest,
        platforms: [await this.#describePlatform(inspection, manifest, undefined)],
      };
    const platforms: PlatformDescription[] = [];
    const walked = await this.#deps.images.walk(target, parsed, signal);
    const absent = [...walked.absent];
    for (const descriptor of walked.manifests.filter(isImageManifest)) {
      countParts(inspection, [descriptor]);
      const found = await this.#deps.images.read(target, descriptor, signal);
      if (found === undefined) absent.push(descriptor);
      else platforms.push(await this.#describePlatform(inspection, found, descriptor));
    }
    return {
      digest: manifest.digest,
      platforms,
      ...(absent.length === 0 ? {} : { absent: absent.map(describeAbsent) }),
    };
  }

  async #describePlatform(
    inspection: Inspection,
    manifest: ManifestDocument,
    descriptor: Descriptor | undefined,
  ): Promise<PlatformDescription> {
    const { target } = inspection;
    const parsed = tryParseManifest(manifest);
    if (parsed?.kind !== 'image') {
      const { pullLog } = this.#deps;
      const nothing = { layers: [], soci: {}, pulls: pullLog.counts(manifest.digest) };
      const platform = nameOf(descriptor?.platform);
      return { platform, manifest: manifest.digest, ...nothing, reason: 'IMAGE_UNSUPPORTED' };
    }
    const config = await this.#readConfig(inspection, parsed.config);
    // Outside an image index, only the config has the platform.
    const platform = descriptor?.platform ?? config.platform;
    const { indexer, inflatedIndexer, policies } = this.#deps;
    const policy = policies.of(target);
    const ofTags = servesTars(policy) ? inflatedIndexer : indexer;
    const v1 = policy.v1 ? await indexer.existing(target, manifest, 'v1') : undefined;
    const v2 = policy.v2 ? await ofTags.existingV2(target, manifest) : undefined;
    const own = {
      ...(v1 === undefined ? {} : { v1: v1.digest }),
      ...(v2 === undefined ? {} : { v2: v2.index.digest }),
    };
    const pushed = await this.#deps.pushed.find(target, manifest);
    const layers = await this.#describeLayers(inspection, parsed.layers);
    const indexed = pushed.v1 === undefined && pushed.v2 === undefined ? v2 : undefined;
    return {
      platform: nameOf(platform),
      manifest: manifest.digest,
      layers: indexed === undefined ? layers : nameTars(layers, indexed),
      ...this.#describeBootLayer(target, manifest),
      pulls: this.#deps.pullLog.counts(parsed.config?.digest ?? manifest.digest),
      soci: { ...own, ...pushed },
      ...(config.fault === undefined ? {} : { reason: config.fault }),
    };
  }

  #describeBootLayer(target: Target, { digest }: ManifestDocument): Pick<PlatformDescription, 'bootLayer'> {
    const answer = this.#deps.bootLayers.answerOf(target, digest);
    if (answer === undefined || answer === 'none') return {};
    return { bootLayer: { ...answer.layer, files: answer.files.length } };
  }

  #readConfig({ target, signal, configs }: Inspection, config: Descriptor | undefined): Promise<ImageConfig> {
    const key = config?.digest ?? '';
    const read = configs.get(key) ?? this.#deps.configs.readForDisplay(target, config, signal);
    configs.set(key, read);
    return read;
  }

  async #describeLayers(
    inspection: Inspection,
    listed: readonly (Descriptor | FaultyDescriptor)[],
  ): Promise<LayerDescription[]> {
    const { target, signal, layers } = inspection;
    countParts(inspection, listed);
    const describe = (layer: Descriptor | FaultyDescriptor): Promise<LayerDescription> => {
      const key = `${layer.digest} ${layer.mediaType}`;
      const described = layers.get(key) ?? this.#deps.layers.describeListed(target, layer, signal);
      layers.set(key, described);
      return described;
    };
    return mapBounded(listed, describe, { maxRunning: MAX_RUNNING, signal });
  }
}

/** Adds the tars that tags name in the places of layers. */
function nameTars(
  layers: readonly LayerDescription[],
  { layers: indexed }: SociIndexOfImage,
): LayerDescription[] {
  const tars = new Map(indexed.map(({ place, tar }) => [place, tar]));
  return layers.map((layer, place) => {
    const tar = tars.get(place);
    if (tar === undefined) return layer;
    return { ...layer, tar: { digest: tar.diffId, size: tar.tarBytes, spanBytes: tar.spanBytes } };
  });
}

/** State of one request. */
interface Inspection {
  readonly target: Target;
  readonly signal: AbortSignal;
  /** By digest. */
  readonly configs: Map<string, Promise<ImageConfig>>;
  /** By digest and media type: platforms share layers, and an image may list a layer many times. */
  readonly layers: Map<string, Promise<LayerDescription>>;
  /** Digests of manifests and layers. */
  readonly parts: Set<string>;
  /** Manifests and layers in the response so far. */
  shown: number;
}

/** @throws SpandrelError IMAGE_UNSUPPORTED */
function countParts(inspection: Inspection, more: readonly { readonly digest: string }[]): void {
  for (const { digest } of more) inspection.parts.add(digest);
  inspection.shown += more.length;
  if (inspection.parts.size > MAX_PARTS || inspection.shown > MAX_SHOWN)
    throw new SpandrelError(
      'IMAGE_UNSUPPORTED',
      `the image has more than ${MAX_PARTS} manifests and layers; ask for one platform by its digest`,
    );
}

function describeAbsent({ platform, digest }: Descriptor): { platform: string | null; manifest: Digest } {
  return { platform: nameOf(platform), manifest: digest };
}

function nameOf(platform: Platform | undefined): string | null {
  return platform === undefined ? null : formatPlatform(platform);
}
