import type { Descriptor, Platform } from '../core/descriptor.ts';
import type { ErrorCode } from '../core/errors.ts';
import type { Digest } from '../core/digest.ts';
import type { Reference } from '../core/image-name.ts';
import { formatPlatform } from '../core/platform.ts';
import type { IndexPolicies } from './index-policy.ts';
import type { LayerDescription, Layers } from './layers.ts';
import type { ImageManifests } from './image-manifests.ts';
import { parseManifest, type StoredManifest, tryParseManifest } from './manifest.ts';
import type { Manifests } from './manifests.ts';
import { isImageManifest } from './platform.ts';
import type { PullCounts, PullLog } from './pull-log.ts';
import type { PushedIndexes } from './pushed-indexes.ts';
import type { SociIndexer, SociVersion } from './soci-indexer.ts';
import type { Target } from './target.ts';

export interface ImageOverviewDeps {
  readonly manifests: Pick<Manifests, 'get'>;
  readonly images: ImageManifests;
  readonly layers: Layers;
  readonly indexer: SociIndexer;
  readonly pushed: PushedIndexes;
  readonly policies: IndexPolicies;
  readonly pullLog: PullLog;
}

export interface PlatformDescription {
  /** `os/arch[/variant]`; null for an image whose config does not say. */
  readonly platform: string | null;
  readonly manifest: Digest;
  readonly layers: readonly LayerDescription[];
  /** Clients that have pulled it by spans, and those that have pulled it whole. */
  readonly pulls: PullCounts;
  readonly soci: { readonly v1?: Digest; readonly v2?: Digest };
  /** Why no node can use the image: its manifest is none, or its config cannot be read. */
  readonly reason?: ErrorCode;
}

export interface ImageDescription {
  readonly digest: Digest;
  readonly platforms: readonly PlatformDescription[];
  /** What the index lists and the registry does not have. */
  readonly absent?: readonly { readonly platform: string | null; readonly manifest: Digest }[];
}

/** Says of an image what has been indexed. */
export class ImageOverview {
  readonly #deps: ImageOverviewDeps;

  constructor(deps: ImageOverviewDeps) {
    this.#deps = deps;
  }

  async describe(target: Target, reference: Reference, signal: AbortSignal): Promise<ImageDescription> {
    const { manifest } = await this.#deps.manifests.get(target, reference, signal);
    const parsed = parseManifest(manifest);
    if (parsed.kind === 'image') {
      return {
        digest: manifest.digest,
        platforms: [await this.#describePlatform(target, manifest, undefined, signal)],
      };
    }
    const platforms: PlatformDescription[] = [];
    const walked = await this.#deps.images.walk(target, parsed, signal);
    const absent = [...walked.absent];
    for (const descriptor of walked.manifests.filter(isImageManifest)) {
      const found = await this.#deps.images.read(target, descriptor, signal);
      if (found === undefined) absent.push(descriptor);
      else platforms.push(await this.#describePlatform(target, found, descriptor, signal));
    }
    return {
      digest: manifest.digest,
      platforms,
      ...(absent.length === 0 ? {} : { absent: absent.map(describeAbsent) }),
    };
  }

  async #describePlatform(
    target: Target,
    manifest: StoredManifest,
    descriptor: Descriptor | undefined,
    signal: AbortSignal,
  ): Promise<PlatformDescription> {
    const parsed = tryParseManifest(manifest);
    if (parsed?.kind !== 'image') {
      const { pullLog } = this.#deps;
      const nothing = { layers: [], soci: {}, pulls: pullLog.counts(manifest.digest) };
      const platform = nameOf(descriptor?.platform);
      return { platform, manifest: manifest.digest, ...nothing, reason: 'IMAGE_UNSUPPORTED' };
    }
    const config = await this.#deps.layers.knownConfig(target, parsed.config, signal);
    // An image without an index around it says its platform in its config.
    const platform = descriptor?.platform ?? config.platform;
    const { v1, v2 } = this.#deps.policies.of(target);
    const own = {
      ...(v1 ? await this.#ownIndex(target, manifest, 'v1') : {}),
      ...(v2 ? await this.#ownIndex(target, manifest, 'v2') : {}),
    };
    return {
      platform: nameOf(platform),
      manifest: manifest.digest,
      layers: await Promise.all(
        parsed.layers.map((layer) => this.#deps.layers.describeListed(target, layer, signal)),
      ),
      pulls: this.#deps.pullLog.counts(parsed.config?.digest ?? manifest.digest),
      soci: { ...own, ...this.#deps.pushed.known(target, manifest.digest) },
      ...(config.fault === undefined ? {} : { reason: config.fault }),
    };
  }

  async #ownIndex(
    target: Target,
    manifest: StoredManifest,
    version: SociVersion,
  ): Promise<{ readonly [V in SociVersion]?: Digest }> {
    const index = await this.#deps.indexer.existing(target, manifest, version);
    return index === undefined ? {} : { [version]: index.digest };
  }
}

function describeAbsent({ platform, digest }: Descriptor): { platform: string | null; manifest: Digest } {
  return { platform: nameOf(platform), manifest: digest };
}

function nameOf(platform: Platform | undefined): string | null {
  return platform === undefined ? null : formatPlatform(platform);
}
