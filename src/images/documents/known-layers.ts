import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import type { Digest } from '../../core/digest.ts';
import { type ImageManifest, isSound } from './parse-manifest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

/** A layer as an image manifest describes it. */
export interface KnownLayer {
  readonly descriptor: Descriptor;
  /** The image's config; `rootfs.diff_ids[position]` there is the layer's diffID. */
  readonly config: Descriptor | undefined;
  readonly position: number;
  /** Digest of the image manifest. */
  readonly manifest: Digest;
}

const MAX_LAYERS = 100_000;

/**
 * Layers of manifests that clients have pulled, by repository. They tell whether a requested blob is a layer,
 * and of which kind. A manifest only claims these facts. A forgotten layer costs an early index, nothing
 * else.
 */
export class KnownLayers {
  readonly #layers = new BoundedMap<KnownLayer>({ maxEntries: MAX_LAYERS });

  learn(target: Target, digest: Digest, manifest: ImageManifest): void {
    for (const [position, descriptor] of manifest.layers.entries()) {
      const { config } = manifest;
      if (isSound(descriptor))
        this.#layers.set(keyOf(target, descriptor.digest), {
          descriptor,
          config,
          position,
          manifest: digest,
        });
    }
  }

  get(target: Target, digest: Digest): KnownLayer | undefined {
    return this.#layers.get(keyOf(target, digest));
  }
}

function keyOf(target: Target, layer: Digest): string {
  return `${targetKey(target)} ${layer}`;
}
