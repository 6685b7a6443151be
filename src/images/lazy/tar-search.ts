import { KeyedAllowances } from '../../cache/keyed-allowances.ts';
import { SingleFlight } from '../../cache/single-flight.ts';
import type { Digest } from '../../core/digest.ts';
import type { Events } from '../../telemetry/events.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import { isImageManifest } from '../documents/order-by-platform.ts';
import { isSound, parseManifest, tryParseManifest } from '../documents/parse-manifest.ts';
import { Attempts } from '../manifests/attempts.ts';
import type { ImageConfigs } from '../manifests/image-configs.ts';
import type { ImageManifests } from '../manifests/image-manifests.ts';
import type { Manifests } from '../manifests/manifests.ts';
import type { RepositoryTags } from '../manifests/repository-tags.ts';

export interface TarSearchDeps {
  readonly manifests: Manifests;
  readonly images: ImageManifests;
  readonly configs: ImageConfigs;
  readonly tags: RepositoryTags;
  readonly events: Events;
  /** Milliseconds of a monotonic clock. */
  readonly now?: () => number;
}

const MAX_REPOSITORIES = 10_000;
/** Configs that one search reads. */
const MAX_CONFIGS = 64;
/** Layers whose configs claim the same diffID. */
const MAX_CANDIDATES = 4;
/** Per repository. */
const SEARCHES_PER_SECOND = 10;

/**
 * Looks for the layers that decompress to a tar, in the configs of the images that a repository's tags name.
 */
export class TarSearch {
  readonly #deps: TarSearchDeps;
  readonly #searches: SingleFlight<readonly Digest[]>;
  readonly #allowances: KeyedAllowances;

  constructor(deps: TarSearchDeps) {
    this.#deps = deps;
    const [perSecond, maxKeys] = [SEARCHES_PER_SECOND, MAX_REPOSITORIES];
    this.#allowances = new KeyedAllowances({ perSecond, maxKeys, nowMs: deps.now });
    this.#searches = new SingleFlight('index', deps.events);
  }

  /**
   * Layers that configs claim to decompress to the tar; nothing is verified. Empty if there are none, or if
   * there are too many searches.
   * @throws SpandrelError if an image that may lead to it cannot be read now
   */
  run(target: Target, diffId: Digest, signal?: AbortSignal): Promise<readonly Digest[]> {
    return this.#searches.run(`${targetKey(target)} ${diffId}`, () => this.#search(target, diffId), signal);
  }

  async #search(target: Target, diffId: Digest): Promise<readonly Digest[]> {
    if (!this.#allowances.take(targetKey(target))) return [];
    const attempts = new Attempts();
    const candidates = new Set<Digest>();
    const seen = new Set<Digest>();
    for (const tag of await this.#deps.tags.of(target, attempts)) {
      for (const manifest of (await attempts.run(() => this.#manifestsOf(target, tag))) ?? []) {
        if (seen.has(manifest)) continue;
        if (seen.size === MAX_CONFIGS) return [...candidates];
        seen.add(manifest);
        const layers = await attempts.run(() => this.#layersOf(target, manifest, diffId));
        for (const layer of layers ?? []) candidates.add(layer);
        if (candidates.size >= MAX_CANDIDATES) return [...candidates];
      }
    }
    if (candidates.size === 0) attempts.throwIfPassing();
    return [...candidates];
  }

  /** Digests of the image manifests behind a tag. */
  async #manifestsOf(target: Target, tag: string): Promise<readonly Digest[]> {
    const { manifests, images } = this.#deps;
    const { manifest } = await manifests.get(target, { tag });
    const parsed = parseManifest(manifest);
    if (parsed.kind === 'image') return [manifest.digest];
    const walked = await images.walk(target, parsed);
    return walked.manifests.filter(isImageManifest).map(({ digest }) => digest);
  }

  async #layersOf(target: Target, manifest: Digest, diffId: Digest): Promise<readonly Digest[]> {
    const { images, configs } = this.#deps;
    const document = await images.read(target, { digest: manifest });
    const parsed = document && tryParseManifest(document);
    if (parsed?.kind !== 'image') return [];
    const { diffIds = [] } = await configs.read(target, parsed.config);
    return parsed.layers.flatMap((layer, place) =>
      isSound(layer) && diffIds[place] === diffId && layer.digest !== diffId ? [layer.digest] : [],
    );
  }
}
