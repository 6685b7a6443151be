import type { ManifestDocument } from '../core/manifest-document.ts';
import type { Descriptor } from '../core/descriptor.ts';
import { formatPlatform, matchesPlatform, type Platform } from '../core/platform.ts';
import { type Digest, parseDigest } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { mapBounded } from '../core/work/map-bounded.ts';
import { decodeZtoc } from '../ztoc/decode-ztoc.ts';
import { MEDIA_TYPES } from '../core/media-types.ts';
import type { InflatedFile } from '../build/inflate-layer-file.ts';
import type { LayerFileIndex } from '../build/index-layer-file.ts';
import { convertImage, type PlatformIndex, SOCI_FORM } from '../soci/convert-image.ts';
import { skipReason, tarSkipReason } from '../soci/skip-reason.ts';
import type { LayerOutcome, MadeBootLayer, PlatformOutcome } from './platform-outcome.ts';
import type { PlatformImage, SourceImage } from './source-image.ts';
import { decodeConfigDiffIds, decodeOciManifest, type OciDescriptor } from '../soci/oci-manifest.ts';
import { type PrefetchLayer, planPrefetch, readPrefetchLayer } from '../soci/plan-prefetch.ts';
import {
  EMPTY_CONFIG,
  EMPTY_CONFIG_DIGEST,
  encodeSociIndex,
  type SociIndex,
  type SociIndexInput,
  type SociLayer,
} from '../soci/soci-index.ts';
import { hasNoXattrs } from '../soci/has-no-xattrs.ts';

const LAYERS_AT_ONCE = 32;

export interface ConvertOptions {
  /** `all`, or a list. An empty list means the only platform of the image, else that of the host. */
  readonly platforms: 'all' | readonly Platform[];
  readonly host: Platform;
  /**
   * `full` is what `soci` makes; `inflated` also replaces layers with their tars. `v1` leaves the image as it
   * is: the SOCI index names the image manifest as its subject.
   */
  readonly form: 'full' | 'inflated' | 'v1';
  readonly spanBytes: number;
  readonly minLayerBytes: number;
  /** Mark layers without extended attributes. */
  readonly optimizeXattrs: boolean;
  readonly prefetchPaths: readonly string[];
  /** Layers that are indexed, and whose zTOCs are in memory, at the same time. */
  readonly layersAtOnce?: number;
}

/** Where an image comes from: a layout, a registry. `Layer` says where a layer is. */
export interface ImageSource<Layer> {
  readManifest(digest: string): Promise<Buffer>;
  readConfig(digest: string): Promise<Buffer>;
  /** A manifest or index that the image index lists; `undefined` leaves it as it is. */
  readListed(digest: string): Promise<Buffer | undefined>;
  /** @throws SpandrelError BLOB_CORRUPT if the layer has another size */
  locateLayer(layer: Pick<Descriptor, 'digest' | 'size'>): Layer;
}

/** Where zTOCs come from and the results go. What a document refers to is stored before it. */
export interface ConvertDeps<Layer> {
  /** Indexes one layer; called for several layers at the same time. */
  indexLayer(layer: Layer, digest: Digest): Promise<LayerZtoc>;
  /**
   * Decompresses one layer into a file, for the `inflated` form; called as `indexLayer` is. Without it,
   * layers stay as they are.
   */
  inflateLayer?(layer: Layer, digest: Digest): Promise<InflatedLayer>;
  /** Makes a boot layer, with its config, and stores both. Without it, no image gets one. */
  makeBootLayer?(image: LocatedImage<Layer>): Promise<MadeBootLayer>;
  /** Stores a new blob of the result. */
  putBlob(digest: Digest, bytes: Uint8Array): Promise<void>;
  /** Stores a SOCI index. */
  putIndex(index: SociIndex, subject: SociIndexInput['subject']): Promise<void>;
  /** Stores a rewritten manifest. */
  putManifest(document: ManifestDocument): Promise<void>;
}

/** The zTOC of a layer, or why it has none that may be published. */
export interface LayerZtoc extends Pick<LayerFileIndex, 'reason'> {
  readonly ztoc?: { readonly digest: Digest; readonly bytes: Uint8Array };
}

/** An image whose layers can be read. */
export interface LocatedImage<Layer> {
  /** From the lowest up. */
  readonly layers: readonly { readonly digest: Digest; readonly size: number; readonly part: Layer }[];
  readonly config: Buffer;
}

/** A tar in a file, which stays only if it is taken. */
export interface InflatedLayer extends InflatedFile {
  /** Makes it a blob of the result. */
  take(): Promise<void>;
  drop(): Promise<void>;
}

/** An image whose layers are indexed. */
export interface IndexedImage {
  readonly platforms: readonly PlatformOutcome[];
  readonly indexes: readonly PlatformIndex[];
}

/**
 * Indexes the layers of an image and makes a SOCI index for each platform (soci-snapshotter
 * `soci/soci_convert.go`, Convert). Leaves out a faulty layer, where `soci` fails.
 * @throws SpandrelError PLATFORM_UNKNOWN, INDEX_EMPTY, IMAGE_UNSUPPORTED; errors of `source` and `deps`
 */
export async function indexSource<Layer>(
  image: SourceImage,
  source: ImageSource<Layer>,
  options: ConvertOptions,
  deps: ConvertDeps<Layer>,
): Promise<IndexedImage> {
  const indexer = new SourceIndexer(source, options, deps);
  const chosen = choosePlatforms(image.images, image.isSingle, options);
  const indexes: PlatformIndex[] = [];
  const platforms: PlatformOutcome[] = [];
  for (const wanted of chosen) {
    const found = image.images.find(({ platform }) => matchesPlatform(wanted, platform));
    if (found === undefined) throw platformUnknown(wanted, image.images);
    const { outcome, indexed } = await indexer.indexPlatform(wanted, found.descriptor);
    platforms.push(outcome);
    if (indexed !== undefined)
      indexes.push({ platform: wanted, manifestDigest: found.descriptor.digest, ...indexed });
  }
  if (indexes.length === 0)
    throw new SpandrelError('INDEX_EMPTY', describeEmpty(platforms), { detail: { platforms } });
  return { platforms, indexes };
}

/**
 * Rewrites an image with its SOCI v2 indexes. Stores all manifests but the image index, which is the result.
 * @throws SpandrelError IMAGE_UNSUPPORTED; errors of `source` and `deps`
 */
export async function rewriteSource<Layer>(
  { index }: SourceImage,
  indexes: readonly PlatformIndex[],
  source: ImageSource<Layer>,
  deps: ConvertDeps<Layer>,
): Promise<ManifestDocument> {
  const documents = new Map<string, Buffer>();
  for (const { digest } of index.manifests ?? []) {
    const bytes = await source.readListed(digest);
    if (bytes !== undefined) documents.set(digest, bytes);
  }
  const { manifests, top } = convertImage(index, (digest) => documents.get(digest), indexes, SOCI_FORM);
  for (const manifest of manifests) await deps.putManifest(manifest);
  return top;
}

function choosePlatforms(
  images: readonly PlatformImage[],
  isSingle: boolean,
  { platforms, host }: ConvertOptions,
): Platform[] {
  const available = images.map(({ platform }) => platform);
  const wanted =
    platforms === 'all' ? available : platforms.length > 0 ? platforms : isSingle ? available : [host];
  const distinct: Platform[] = [];
  for (const platform of wanted) {
    if (!distinct.some((known) => matchesPlatform(known, platform))) distinct.push(platform);
  }
  return distinct;
}

function platformUnknown(wanted: Platform, images: readonly PlatformImage[]): SpandrelError {
  const there = images.map(({ platform }) => formatPlatform(platform)).join(', ');
  return new SpandrelError(
    'PLATFORM_UNKNOWN',
    `the image has no ${formatPlatform(wanted)}, only ${there || 'none'}; name one with --platform`,
  );
}

function describeEmpty(platforms: readonly PlatformOutcome[]): string {
  const reasons = platforms.flatMap(({ layers }) => layers.map(({ skipped }) => skipped ?? ''));
  const counts = [...new Set(reasons)].map(
    (reason) => `${reasons.filter((other) => other === reason).length} ${reason}`,
  );
  return `no layer was indexed (${counts.join(', ') || 'the image has none'})`;
}

/** An indexed layer, or the reason why it has no index. */
interface IndexedLayer {
  readonly outcome: LayerOutcome;
  readonly soci?: SociLayer;
  readonly prefetch?: PrefetchLayer;
}

class SourceIndexer<Layer> {
  readonly #source: ImageSource<Layer>;
  readonly #options: ConvertOptions;
  readonly #deps: ConvertDeps<Layer>;
  /** By layer, because platforms share layers. */
  readonly #indexed = new Map<string, Promise<IndexedLayer>>();

  constructor(source: ImageSource<Layer>, options: ConvertOptions, deps: ConvertDeps<Layer>) {
    this.#source = source;
    this.#options = options;
    this.#deps = deps;
  }

  async indexPlatform(
    platform: Platform,
    manifest: OciDescriptor,
  ): Promise<{ outcome: PlatformOutcome; indexed?: Omit<PlatformIndex, 'platform' | 'manifestDigest'> }> {
    const { config, layers = [] } = decodeOciManifest(await this.#source.readManifest(manifest.digest));
    const { form, prefetchPaths } = this.#options;
    const diffIds =
      form === 'inflated' ? decodeConfigDiffIds(await this.#source.readConfig(config.digest)) : [];
    const places = [...layers.entries()];
    const indexed = await mapBounded(places, ([place, layer]) => this.#indexOnce(layer, diffIds[place]), {
      maxRunning: this.#options.layersAtOnce ?? LAYERS_AT_ONCE,
    });
    const tars = new Map(indexed.flatMap(({ outcome: { tar } }, place) => (tar ? [[place, tar]] : [])));
    const outcome = { platform: formatPlatform(platform), layers: indexed.map((layer) => layer.outcome) };
    const sociLayers = indexed.flatMap(({ soci }) => soci ?? []);
    if (sociLayers.length === 0) return { outcome: { ...outcome, missingFiles: [] } };

    const plan = planPrefetch(
      prefetchPaths,
      indexed.flatMap(({ prefetch }) => prefetch ?? []),
    );
    for (const { digest, bytes } of plan.artifacts) await this.#deps.putBlob(digest, bytes);
    const { mediaType, size: manifestBytes } = manifest;
    const subject =
      form === 'v1' ? { mediaType, digest: parseDigest(manifest.digest), size: manifestBytes } : undefined;
    const index = encodeSociIndex({
      layers: sociLayers,
      prefetch: plan.artifacts,
      ...(subject === undefined ? {} : { subject }),
    });
    const { digest, size } = index.descriptor;
    await this.#deps.putBlob(EMPTY_CONFIG_DIGEST, EMPTY_CONFIG);
    await this.#deps.putIndex(index, subject);
    const made = await this.#makeBootLayer(config.digest, layers);
    const bootLayer = made === undefined ? {} : { bootLayer: made };
    return {
      outcome: { ...outcome, sociIndex: digest, ...bootLayer, missingFiles: plan.missing },
      indexed: {
        index: { digest, size },
        tars,
        boot: made !== undefined && 'layer' in made ? made : undefined,
      },
    };
  }

  async #makeBootLayer(config: string, layers: readonly OciDescriptor[]): Promise<MadeBootLayer | undefined> {
    if (this.#deps.makeBootLayer === undefined) return undefined;
    const located = layers.map(({ digest, size }) => {
      const layer = { digest: parseDigest(digest), size };
      return { ...layer, part: this.#source.locateLayer(layer) };
    });
    const image = { layers: located, config: await this.#source.readConfig(config) };
    return this.#deps.makeBootLayer(image);
  }

  /** @param diffId according to the config; none in the `full` form */
  #indexOnce(layer: OciDescriptor, diffId: string | undefined): Promise<IndexedLayer> {
    // The index also contains the layer's media type.
    const key = `${layer.digest} ${layer.mediaType} ${diffId}`;
    const known = this.#indexed.get(key);
    if (known !== undefined) return known;
    const indexed = this.#index(layer, diffId);
    this.#indexed.set(key, indexed);
    return indexed;
  }

  async #index(layer: OciDescriptor, diffId: string | undefined): Promise<IndexedLayer> {
    const digest = parseDigest(layer.digest);
    const descriptor = { digest, mediaType: layer.mediaType, size: layer.size };
    const { form, minLayerBytes } = this.#options;
    const skipped = (form === 'inflated' ? tarSkipReason : skipReason)(descriptor, minLayerBytes);
    if (skipped !== undefined) return { outcome: { digest, state: 'skipped', skipped } };
    const part = this.#source.locateLayer(descriptor);
    try {
      const tar = form === 'inflated' ? await this.#inflate(descriptor, part, diffId) : undefined;
      return tar ?? (await this.#keep(descriptor, await this.#deps.indexLayer(part, digest)));
    } catch (error) {
      if (!isSpandrelError(error, 'LAYER_CORRUPT', 'LAYER_UNSUPPORTED', 'LAYER_TOO_LARGE')) throw error;
      return { outcome: { digest, state: 'failed', skipped: error.code, message: error.message } };
    }
  }

  /** The layer with its tar in its place; `undefined` if it must stay as it is. */
  async #inflate(
    layer: SociLayer['layer'],
    part: Layer,
    diffId: string | undefined,
  ): Promise<IndexedLayer | undefined> {
    const { digest } = layer;
    const inflated = await this.#deps.inflateLayer?.(part, digest);
    if (inflated === undefined) return undefined;
    const { ztoc, spanBytes, compression, tarBytes: size } = inflated;
    if (ztoc === undefined || inflated.diffId !== diffId) {
      await inflated.drop();
      return undefined;
    }
    // The tar is the layer: its media type may be Docker's.
    if (compression === 'none') {
      await inflated.drop();
      return this.#keepZtoc(layer, digest, spanBytes, ztoc);
    }
    await inflated.take();
    const tar = { digest: inflated.diffId, mediaType: MEDIA_TYPES.ociLayer };
    const kept = await this.#keepZtoc(tar, digest, spanBytes, ztoc);
    return { ...kept, outcome: { ...kept.outcome, tar: { digest: tar.digest, size } } };
  }

  async #keep(layer: SociLayer['layer'], index: LayerZtoc): Promise<IndexedLayer> {
    const { digest } = layer;
    const { ztoc, reason } = index;
    if (ztoc === undefined || reason !== undefined) {
      const { code, message } = reason ?? { code: 'INTERNAL', message: 'no zTOC' };
      return { outcome: { digest, state: 'failed', skipped: code, message } };
    }
    return this.#keepZtoc(layer, digest, this.#options.spanBytes, ztoc);
  }

  /** @param layer as the result names it */
  async #keepZtoc(
    layer: SociLayer['layer'],
    original: Digest,
    spanBytes: number,
    ztoc: NonNullable<LayerZtoc['ztoc']>,
  ): Promise<IndexedLayer> {
    const { optimizeXattrs, prefetchPaths } = this.#options;
    const isPrefetching = prefetchPaths.length > 0;
    const decoded = optimizeXattrs || isPrefetching ? decodeZtoc(ztoc.bytes) : undefined;
    const disableXattrs = optimizeXattrs && decoded !== undefined && hasNoXattrs(decoded);
    const prefetch =
      isPrefetching && decoded !== undefined ? readPrefetchLayer(layer.digest, decoded) : undefined;
    await this.#deps.putBlob(ztoc.digest, ztoc.bytes);
    return {
      outcome: {
        digest: original,
        state: 'indexed',
        ztoc: { digest: ztoc.digest, size: ztoc.bytes.byteLength },
      },
      soci: {
        layer,
        spanBytes,
        ztoc: { digest: ztoc.digest, sizeBytes: ztoc.bytes.byteLength },
        disableXattrs,
      },
      ...(prefetch === undefined ? {} : { prefetch }),
    };
  }
}
