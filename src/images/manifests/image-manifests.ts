import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import { formatPlatform, matchesPlatform, type Platform } from '../../core/platform.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { isIndexType } from '../../core/media-types.ts';
import type { ImageConfig } from '../documents/image-config.ts';
import type { ImageConfigs } from './image-configs.ts';
import {
  type ImageIndex,
  type ImageManifest,
  parseManifest,
  soundDescriptors,
  tryParseManifest,
} from '../documents/parse-manifest.ts';
import type { Manifests } from './manifests.ts';
import { isImageManifest, orderByPlatform } from '../documents/order-by-platform.ts';
import type { Target } from '../../upstream/target.ts';

export interface ImageManifestsDeps {
  readonly manifests: Pick<Manifests, 'get'>;
  readonly configs: ImageConfigs;
}

/** The manifests that an image index lists, with those of nested indexes. */
export interface IndexContent {
  /** All listed manifests that are not indexes, in order; those of a nested index take its place. */
  readonly manifests: readonly Descriptor[];
  /** Nested indexes, each once, outer ones first. */
  readonly indexes: readonly ManifestDocument[];
  /** Nested indexes that the registry lacks or that are not indexes. */
  readonly absent: readonly Descriptor[];
}

/** An image manifest and its platform. */
export interface PlatformManifest {
  readonly platform: Platform;
  readonly manifest: ManifestDocument;
}

/** Real images nest one index per platform in an outer index. */
const MAX_DEPTH = 4;
const MAX_INDEXES = 64;
/** As in one index: each may be requested. */
const MAX_MANIFESTS = 250;

/**
 * The image manifests behind a tag: the one that it names, or those of an image index and its nested indexes,
 * walked as nodes do (containerd `core/images`, Manifest). An index may list manifests that its registry
 * lacks, because only some platforms were copied there; the others work.
 */
export class ImageManifests {
  readonly #deps: ImageManifestsDeps;

  constructor(deps: ImageManifestsDeps) {
    this.#deps = deps;
  }

  /**
   * Reads all nested indexes of an index.
   * @throws SpandrelError IMAGE_UNSUPPORTED for more nested indexes, levels or manifests than the limits
   * allow; errors of `Manifests.get`
   */
  async walk(target: Target, top: ImageIndex, signal?: AbortSignal): Promise<IndexContent> {
    const indexes = new Map<string, ManifestDocument>();
    const absent: Descriptor[] = [];
    const visited = new Set<string>();
    const listedOnce = new Set<string>();
    const expand = async (
      index: ImageIndex,
      around: Platform | undefined,
      depth: number,
    ): Promise<Descriptor[]> => {
      const found: Descriptor[] = [];
      for (const listed of soundDescriptors(index.manifests)) {
        const platform = listed.platform ?? around;
        const descriptor = platform === undefined ? listed : { ...listed, platform };
        if (!isIndexType(descriptor.mediaType)) {
          found.push(descriptor);
          if (listedOnce.add(descriptor.digest).size > MAX_MANIFESTS) throw tooLarge();
        } else if (!visited.has(descriptor.digest)) {
          visited.add(descriptor.digest);
          if (depth >= MAX_DEPTH || visited.size > MAX_INDEXES) throw tooLarge();
          const inner = await this.read(target, descriptor, signal);
          const parsed = inner && tryParseManifest(inner);
          if (inner === undefined || parsed?.kind !== 'index') absent.push(descriptor);
          else {
            indexes.set(descriptor.digest, inner);
            found.push(...(await expand(parsed, platform, depth + 1)));
          }
        }
      }
      return found;
    };
    const manifests = await expand(top, undefined, 0);
    return { manifests, indexes: [...indexes.values()], absent };
  }

  /**
   * A manifest that an index lists; `undefined` if the registry lacks it.
   * @throws SpandrelError as `Manifests.get`
   */
  async read(
    target: Target,
    { digest }: Pick<Descriptor, 'digest'>,
    signal?: AbortSignal,
  ): Promise<ManifestDocument | undefined> {
    try {
      return (await this.#deps.manifests.get(target, { digest }, signal)).manifest;
    } catch (error) {
      if (isSpandrelError(error, 'MANIFEST_UNKNOWN')) return undefined;
      throw error;
    }
  }

  /**
   * The image manifest for `wanted`; by default that for linux/amd64, else the first that exists. An image
   * manifest without an index is refused if its config names another platform.
   * @throws SpandrelError PLATFORM_UNKNOWN; MANIFEST_UNKNOWN if the index lists it and the registry lacks it
   */
  async select(
    target: Target,
    top: ManifestDocument,
    wanted: Platform | undefined,
    signal?: AbortSignal,
  ): Promise<ManifestDocument> {
    const parsed = parseManifest(top);
    if (parsed.kind === 'image') {
      if (wanted !== undefined) await this.#requirePlatform(target, parsed, wanted, signal);
      return top;
    }
    const images = (await this.walk(target, parsed, signal)).manifests.filter(isImageManifest);
    const fitting = orderByPlatform(images, wanted);
    for (const candidate of fitting) {
      const manifest = await this.read(target, candidate, signal);
      if (manifest === undefined) continue;
      if (candidate.platform !== undefined || wanted === undefined) return manifest;
      const { platform } = await this.platformOf(target, candidate, manifest, signal);
      if (platform !== undefined && matchesPlatform(wanted, platform)) return manifest;
    }
    const listed =
      fitting.find(({ platform }) => platform !== undefined) ?? (wanted ? undefined : fitting[0]);
    if (listed !== undefined) throw notInRegistry(listed);
    const existing = images.map(({ platform }) =>
      platform === undefined ? 'unnamed' : formatPlatform(platform),
    );
    throw platformUnknown(existing);
  }

  /** An image whose config names no platform fits all. @throws SpandrelError PLATFORM_UNKNOWN */
  async #requirePlatform(
    target: Target,
    { config }: ImageManifest,
    wanted: Platform,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    if (config === undefined) return;
    const { platform } = await this.#deps.configs.read(target, config, signal);
    if (platform === undefined || orderByPlatform([{ ...config, platform }], wanted).length > 0) return;
    throw platformUnknown([formatPlatform(platform)]);
  }

  /**
   * The platform of an image, from the index that lists it or else from its config; absent if neither has it.
   */
  async platformOf(
    target: Target,
    { platform }: Pick<Descriptor, 'platform'>,
    manifest: ManifestDocument,
    signal?: AbortSignal,
  ): Promise<Pick<ImageConfig, 'platform' | 'fault'>> {
    if (platform !== undefined) return { platform };
    const parsed = tryParseManifest(manifest);
    if (parsed?.kind !== 'image') return { fault: 'IMAGE_UNSUPPORTED' };
    return this.#deps.configs.read(target, parsed.config, signal);
  }
}

function platformUnknown(existing: readonly string[]): SpandrelError {
  return new SpandrelError('PLATFORM_UNKNOWN', `the image has ${existing.join(', ') || 'no platform'}`, {
    detail: { platforms: existing },
  });
}

function tooLarge(): SpandrelError {
  return new SpandrelError('IMAGE_UNSUPPORTED', 'the image index has too many manifests or nested indexes');
}

function notInRegistry({ digest, platform }: Descriptor): SpandrelError {
  const name = platform === undefined ? 'an image' : formatPlatform(platform);
  return new SpandrelError(
    'MANIFEST_UNKNOWN',
    `the image index lists ${name} (${digest}), but the registry does not have it`,
  );
}
