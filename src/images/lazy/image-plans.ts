import { Memo } from '../../cache/memo.ts';
import type { RetryPauses } from '../../cache/passing-faults.ts';
import type { ManifestDocument } from '../../core/manifest-document.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import { matchesPlatform } from '../../core/platform.ts';
import type { Events } from '../../telemetry/events.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import { isFinalConfig } from '../documents/image-config.ts';
import { isImageManifest } from '../documents/order-by-platform.ts';
import { parseManifest, soundDescriptors, tryParseManifest } from '../documents/parse-manifest.ts';
import type { ImageConfigs } from '../manifests/image-configs.ts';
import type { ImageManifests, PlatformManifest } from '../manifests/image-manifests.ts';
import type { IndexPolicy } from './index-policy.ts';
import type { PushedIndexes } from './pushed-indexes.ts';

export interface ImagePlansDeps {
  readonly images: ImageManifests;
  readonly configs: ImageConfigs;
  readonly pushed: PushedIndexes;
  /** Pauses before missing parts of an image are requested again. */
  readonly pauses: RetryPauses;
  readonly events: Events;
}

/** Which parts of an image are converted. */
export interface ImagePlan {
  readonly original: ManifestDocument;
  /** Image manifests that get an index; empty if the image stays as it is. */
  readonly images: readonly PlatformManifest[];
  /** False if the registry lacks some manifest, which may appear later. */
  readonly isComplete: boolean;
}

const MAX_REMEMBERED = 10_000;

/** Chooses the manifests of an image that get SOCI indexes. */
export class ImagePlans {
  readonly #deps: ImagePlansDeps;
  /** By {@link planKey}. Whether the publisher has pushed an index is checked each time. */
  readonly #known: Memo<ImagePlan>;

  constructor(deps: ImagePlansDeps) {
    this.#deps = deps;
    const bound = { maxEntries: MAX_REMEMBERED };
    const isFinal = ({ isComplete }: ImagePlan): boolean => isComplete;
    this.#known = new Memo('index', deps.events, bound, { isFinal, pauses: deps.pauses });
  }

  /** Whatever the publisher has pushed. */
  of(target: Target, original: ManifestDocument, policy: IndexPolicy): Promise<ImagePlan> {
    const key = planKey(target, original, policy);
    return this.#known.get(key, () => this.make(target, original, policy));
  }

  /** As {@link of}; an index pushed by the publisher takes precedence. */
  async unlessPushed(target: Target, original: ManifestDocument, policy: IndexPolicy): Promise<ImagePlan> {
    const plan = await this.of(target, original, policy);
    const pushed = await Promise.all(
      plan.images.map(({ manifest }) => this.#deps.pushed.isPushed(target, manifest)),
    );
    return pushed.includes(true) ? { ...plan, images: [] } : plan;
  }

  /**
   * As {@link of}, without memory.
   * @param options `evenIfConverted`: also the manifests of an image that lists SOCI indexes
   */
  async make(
    target: Target,
    original: ManifestDocument,
    policy: IndexPolicy,
    { signal, evenIfConverted = false }: { signal?: AbortSignal | undefined; evenIfConverted?: boolean } = {},
  ): Promise<ImagePlan> {
    const parsed = parseManifest(original);
    if (parsed.kind === 'image') {
      const config = await this.#deps.configs.read(target, parsed.config, signal);
      const { platform } = config;
      const images = platform === undefined ? [] : [{ platform, manifest: original }];
      return { original, images, isComplete: isFinalConfig(config) };
    }
    const { manifests, absent } = await this.#deps.images.walk(target, parsed, signal);
    if (!evenIfConverted && manifests.some(isSociIndex)) return { original, images: [], isComplete: true };
    const available = manifests.filter(isImageManifest);
    const images: PlatformManifest[] = [];
    let isComplete = absent.length === 0;
    for (const wanted of available.length === 1 ? [undefined] : policy.platforms) {
      const candidates = available.filter(
        ({ platform }) => wanted === undefined || platform === undefined || matchesPlatform(wanted, platform),
      );
      for (const candidate of candidates) {
        const manifest = await this.#deps.images.read(target, candidate, signal);
        if (manifest === undefined) isComplete = false;
        if (manifest === undefined || tryParseManifest(manifest)?.kind !== 'image') continue;
        const found = await this.#deps.images.platformOf(target, candidate, manifest, signal);
        if (!isFinalConfig(found)) isComplete = false;
        const { platform } = found;
        if (platform === undefined || (wanted !== undefined && !matchesPlatform(wanted, platform))) continue;
        if (!images.some((image) => image.manifest.digest === manifest.digest))
          images.push({ platform, manifest });
        break;
      }
    }
    return { original, images, isComplete };
  }
}

/** True if the image lists SOCI v2 indexes, as `soci convert` makes it. */
export function isConverted(image: ManifestDocument): boolean {
  const parsed = tryParseManifest(image);
  return parsed?.kind === 'index' && soundDescriptors(parsed.manifests).some(isSociIndex);
}

function isSociIndex({ artifactType }: Descriptor): boolean {
  return artifactType === MEDIA_TYPES.sociIndexV2;
}

/**
 * A plan depends on the repository, the image, and the platforms of the policy, which a reload may change.
 */
function planKey(target: Target, original: ManifestDocument, { platforms }: IndexPolicy): string {
  return `${targetKey(target)} ${original.digest} ${JSON.stringify(platforms)}`;
}
