import type { Descriptor } from '../../core/descriptor.ts';
import { formatPlatform, matchesPlatform, type Platform } from '../../core/platform.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { isIndexType } from '../../core/media-types.ts';
import type { ImageConfig } from '../documents/image-config.ts';
import type { ImageConfigs } from './image-configs.ts';
import {
  type ImageIndex,
  parseManifest,
  soundDescriptors,
  type StoredManifest,
  tryParseManifest,
} from '../documents/parse-manifest.ts';
import type { Manifests } from './manifests.ts';
import { isImageManifest, orderByPlatform } from '../documents/order-by-platform.ts';
import type { Target } from '../../upstream/target.ts';

export interface ImageManifestsDeps {
  readonly manifests: Pick<Manifests, 'get'>;
  readonly configs: ImageConfigs;
}

/** What an index leads to. */
export interface IndexContent {
  /** What is no index itself, images and else, in the order of the index; those of an index inside stand in its place. */
  readonly manifests: readonly Descriptor[];
  /** The indexes inside, each once, outer ones first. */
  readonly indexes: readonly StoredManifest[];
  /** Indexes inside that the registry does not have, or that are no indexes. */
  readonly absent: readonly Descriptor[];
}

/** An image manifest and what it is for. */
export interface PlatformManifest {
  readonly platform: Platform;
  readonly manifest: StoredManifest;
}

/** Real images have one index for each platform inside of one. */
const MAX_DEPTH = 4;
const MAX_INDEXES = 64;
/** As of one index: each may be asked for. */
const MAX_MANIFESTS = 250;

/**
 * The image manifests that a tag leads to: the one it names, or those of an index and of the indexes inside of it, as nodes walk them
 * (containerd `core/images`, Manifest). An index may list what its registry does not have, if only some of its platforms have been
 * copied there; the others are as good as ever.
 */
export class ImageManifests {
  readonly #deps: ImageManifestsDeps;

  constructor(deps: ImageManifestsDeps) {
    this.#deps = deps;
  }

  /**
   * Read all indexes inside of an index.
   * @throws SpandrelError IMAGE_UNSUPPORTED for more of them, deeper ones or more manifests than an image can be meant to have; what manifests throw
   */
  async walk(target: Target, top: ImageIndex, signal?: AbortSignal): Promise<IndexContent> {
    const indexes = new Map<string, StoredManifest>();
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
          if (listedOnce.add(descriptor.digest).size > MAX_MANIFESTS) throw tooDeep();
        } else if (!visited.has(descriptor.digest)) {
          visited.add(descriptor.digest);
          if (depth >= MAX_DEPTH || visited.size > MAX_INDEXES) throw tooDeep();
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

  /** A manifest that an index lists; `undefined` if the registry does not have it. @throws SpandrelError as `Manifests.get` */
  async read(
    target: Target,
    { digest }: Pick<Descriptor, 'digest'>,
    signal?: AbortSignal,
  ): Promise<StoredManifest | undefined> {
    try {
      return (await this.#deps.manifests.get(target, { digest }, signal)).manifest;
    } catch (error) {
      if (isSpandrelError(error, 'MANIFEST_UNKNOWN')) return undefined;
      throw error;
    }
  }

  /**
   * The image manifest for `wanted`; without a wish that for linux/amd64, else the first that is there. A tag that names no index
   * leads to its image, whatever is wanted.
   * @throws SpandrelError PLATFORM_UNKNOWN; MANIFEST_UNKNOWN if the index lists it and the registry does not have it
   */
  async select(
    target: Target,
    top: StoredManifest,
    wanted: Platform | undefined,
    signal?: AbortSignal,
  ): Promise<StoredManifest> {
    const parsed = parseManifest(top);
    if (parsed.kind === 'image') return top;
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
    if (listed !== undefined) throw notThere(listed);
    const there = images.map(({ platform }) =>
      platform === undefined ? 'unnamed' : formatPlatform(platform),
    );
    throw new SpandrelError('PLATFORM_UNKNOWN', `the image has ${there.join(', ') || 'no platform'}`, {
      detail: { platforms: there },
    });
  }

  /** What an image is for, from the index around it, else from its config; no platform where neither says it. */
  async platformOf(
    target: Target,
    { platform }: Pick<Descriptor, 'platform'>,
    manifest: StoredManifest,
    signal?: AbortSignal,
  ): Promise<Pick<ImageConfig, 'platform' | 'fault'>> {
    if (platform !== undefined) return { platform };
    const parsed = tryParseManifest(manifest);
    if (parsed?.kind !== 'image') return { fault: 'IMAGE_UNSUPPORTED' };
    return this.#deps.configs.read(target, parsed.config, signal);
  }
}

function tooDeep(): SpandrelError {
  return new SpandrelError(
    'IMAGE_UNSUPPORTED',
    'the image has more manifests, or indexes inside of its index, than are looked at',
  );
}

function notThere({ digest, platform }: Descriptor): SpandrelError {
  const name = platform === undefined ? 'an image' : formatPlatform(platform);
  return new SpandrelError(
    'MANIFEST_UNKNOWN',
    `the image index lists ${name} (${digest}), but the registry does not have it`,
  );
}
