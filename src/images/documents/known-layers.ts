import { BoundedMap } from '../../cache/bounded-map.ts';
import type { Descriptor } from '../../core/descriptor.ts';
import type { Digest } from '../../core/digest.ts';
import { type ImageManifest, isSound } from './parse-manifest.ts';
import { type Target, targetKey } from '../../upstream/target.ts';

/** What an image manifest says of one of its layers. */
export interface KnownLayer {
  readonly descriptor: Descriptor;
  /** The image's config, which has the layer's diffID at `position` of its `rootfs.diff_ids`. */
  readonly config: Descriptor | undefined;
  readonly position: number;
  /** The image manifest. */
  readonly manifest: Digest;
}

const MAX_LAYERS = 100_000;

/**
 * Layers of the manifests that have passed through, by repository: what a manifest says of a layer is its word only. A blob request names
 * a digest; this tells whether it is a layer, and of which kind. Forgetting one costs an early index, nothing else.
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
