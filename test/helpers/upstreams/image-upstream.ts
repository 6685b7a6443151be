import { gzipSync } from 'node:zlib';

import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { addImage, image, type ImageLayer } from '../images/image.ts';

/** A layer of an image, which the registry may not have. */
export interface UpstreamLayer extends ImageLayer {
  readonly isMissing?: boolean;
}

/** The layer that holds a tar. */
export function gzipLayer(tar: Buffer): UpstreamLayer {
  return { bytes: gzipSync(tar, { level: 1 }), diffId: digestOf(tar) };
}

/** A registry whose images are made of given layers. */
export class ImageUpstream implements AsyncDisposable {
  readonly registry: ScriptedRegistry;

  private constructor(registry: ScriptedRegistry) {
    this.registry = registry;
  }

  static async start(): Promise<ImageUpstream> {
    return new ImageUpstream(await ScriptedRegistry.start());
  }

  get url(): string {
    return this.registry.url;
  }

  /** Tag an image. @param layers from the lowest up @returns the digests of its layers */
  async addImage(repository: string, layers: readonly UpstreamLayer[], tag = 'latest'): Promise<Digest[]> {
    const whole = image(layers);
    const missing = layers.filter(({ isMissing }) => isMissing === true).map(({ bytes }) => bytes);
    const blobs = whole.blobs.filter((blob) => !missing.includes(blob));
    await addImage(this.registry, repository, { ...whole, blobs }, tag);
    return layers.map(({ bytes }) => digestOf(bytes));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.registry[Symbol.asyncDispose]();
  }
}
