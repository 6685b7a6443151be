import type { Descriptor } from '../core/descriptor.ts';
import type { Digest } from '../core/digest.ts';
import type { Reference } from '../core/image-name.ts';
import { formatPlatform } from '../core/platform.ts';
import type { IndexPolicies } from './index-policy.ts';
import type { LayerDescription, Layers } from './layers.ts';
import { parseManifest, type StoredManifest } from './manifest.ts';
import type { Manifests } from './manifests.ts';
import { imageManifests } from './platform.ts';
import type { PullCounts, PullLog } from './pull-log.ts';
import type { PushedIndexes } from './pushed-indexes.ts';
import type { SociIndexer, SociVersion } from './soci-indexer.ts';
import type { Target } from './target.ts';

export interface ImageOverviewDeps {
  readonly manifests: Manifests;
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
}

export interface ImageDescription {
  readonly digest: Digest;
  readonly platforms: readonly PlatformDescription[];
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
    for (const descriptor of imageManifests(parsed.manifests)) {
      const found = await this.#deps.manifests.get(target, { digest: descriptor.digest }, signal);
      platforms.push(await this.#describePlatform(target, found.manifest, descriptor, signal));
    }
    return { digest: manifest.digest, platforms };
  }

  async #describePlatform(
    target: Target,
    manifest: StoredManifest,
    descriptor: Descriptor | undefined,
    signal: AbortSignal,
  ): Promise<PlatformDescription> {
    const parsed = parseManifest(manifest);
    const layers = parsed.kind === 'image' ? parsed.layers : [];
    // An image without an index around it says its platform in its config.
    const config =
      parsed.kind === 'image' && descriptor?.platform === undefined
        ? await this.#deps.layers.knownConfig(target, parsed.config, signal)
        : {};
    const platform = descriptor?.platform ?? config.platform;
    const { v1, v2 } = this.#deps.policies.of(target);
    const own = {
      ...(v1 ? await this.#ownIndex(target, manifest, 'v1') : {}),
      ...(v2 ? await this.#ownIndex(target, manifest, 'v2') : {}),
    };
    return {
      platform: platform === undefined ? null : formatPlatform(platform),
      manifest: manifest.digest,
      layers: await Promise.all(
        layers.map(({ digest }) => this.#deps.layers.describe(target, digest, signal)),
      ),
      pulls: this.#deps.pullLog.counts(parsed.kind === 'image' ? parsed.config.digest : manifest.digest),
      soci: { ...own, ...this.#deps.pushed.known(target, manifest.digest) },
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
