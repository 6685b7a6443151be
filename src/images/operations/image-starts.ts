import type { BootProfiles } from '../../boot/boot-profile.ts';
import { describeProfile, type ProfileDescription } from '../../boot/profiles/describe-profile.ts';
import { describeStart, type StartDescription } from '../../boot/starts/describe-start.ts';
import type { RecentStarts } from '../../boot/starts/recent-starts.ts';
import type { Reference } from '../../core/image-reference.ts';
import { mapBounded } from '../../core/work/map-bounded.ts';
import type { Target } from '../../upstream/target.ts';
import { isImageManifest } from '../documents/order-by-platform.ts';
import { parseManifest, tryParseManifest } from '../documents/parse-manifest.ts';
import type { ImageManifests } from '../manifests/image-manifests.ts';
import type { Manifests } from '../manifests/manifests.ts';

export interface ImageStartsDeps {
  readonly manifests: Pick<Manifests, 'get'>;
  readonly images: ImageManifests;
  readonly recentStarts: RecentStarts;
  readonly profiles: BootProfiles;
}

/** Most platforms of an image that are looked at; each may cost a request. */
const MAX_PLATFORMS = 50;
const MAX_RUNNING = 8;
const NO_PROFILE: ProfileDescription = { starts: 0, files: [] };

/** What starts of an image have read. All methods throw as `Manifests.get` does. */
export class ImageStarts {
  readonly #deps: ImageStartsDeps;

  constructor(deps: ImageStartsDeps) {
    this.#deps = deps;
  }

  /** Starts whose layers are all of this image, the newest first. */
  async starts(target: Target, reference: Reference, signal: AbortSignal): Promise<StartDescription[]> {
    const recent = this.#deps.recentStarts.of(target);
    const layers = await this.#layersOf(target, reference, signal);
    return recent
      .filter(({ mounted }) => mounted.every(({ digest, layer }) => layers.has(digest) || layers.has(layer)))
      .map(describeStart);
  }

  /** The profile of the image's repository. */
  async profile(target: Target, reference: Reference, signal: AbortSignal): Promise<ProfileDescription> {
    await this.#deps.manifests.get(target, reference, signal);
    const profile = await this.#deps.profiles.read(target);
    return profile === undefined ? NO_PROFILE : describeProfile(profile);
  }

  /** Digests of the layers of all platforms. */
  async #layersOf(target: Target, reference: Reference, signal: AbortSignal): Promise<Set<string>> {
    const { manifests, images } = this.#deps;
    const { manifest } = await manifests.get(target, reference, signal);
    const parsed = parseManifest(manifest);
    if (parsed.kind === 'image') return new Set(parsed.layers.map(({ digest }) => digest));
    const walked = await images.walk(target, parsed, signal);
    const platforms = walked.manifests.filter(isImageManifest).slice(0, MAX_PLATFORMS);
    const read = await mapBounded(platforms, (platform) => images.read(target, platform, signal), {
      maxRunning: MAX_RUNNING,
      signal,
    });
    const layers = read.flatMap((found) => {
      const image = found && tryParseManifest(found);
      return image?.kind === 'image' ? image.layers : [];
    });
    return new Set(layers.map(({ digest }) => digest));
  }
}
