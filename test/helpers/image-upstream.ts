import { gzipSync } from 'node:zlib';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { DemoRegistry } from '../../src/demo/demo-registry.ts';

/** A layer of an image as its manifest has it. */
export interface UpstreamLayer {
  readonly bytes: Buffer;
  /** Gzip when not given. */
  readonly mediaType?: string;
  /** Of the tar. */
  readonly diffId: Digest;
}

/** The layer that holds a tar. */
export function gzipLayer(tar: Buffer): UpstreamLayer {
  return { bytes: gzipSync(tar, { level: 1 }), diffId: digestOf(tar) };
}

/** A registry whose images are made of given layers. */
export class ImageUpstream implements AsyncDisposable {
  readonly registry: DemoRegistry;

  private constructor(registry: DemoRegistry) {
    this.registry = registry;
  }

  static async start(): Promise<ImageUpstream> {
    return new ImageUpstream(await DemoRegistry.start());
  }

  get url(): string {
    return this.registry.url;
  }

  /** Tag an image `latest`. @param layers from the lowest up @returns the digests of its layers */
  async addImage(repository: string, layers: readonly UpstreamLayer[]): Promise<Digest[]> {
    const config = Buffer.from(
      JSON.stringify({
        os: 'linux',
        architecture: 'amd64',
        rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      }),
    );
    const blobs = [config, ...layers.map(({ bytes }) => bytes)];
    for (const bytes of blobs) await this.registry.addBlob(repository, Uint8Array.from(bytes));
    const manifest = {
      schemaVersion: 2,
      mediaType: MEDIA_TYPES.ociManifest,
      config: describe(config, MEDIA_TYPES.ociConfig),
      layers: layers.map(({ bytes, mediaType = MEDIA_TYPES.ociLayerGzip }) => describe(bytes, mediaType)),
    };
    const bytes = Buffer.from(JSON.stringify(manifest));
    this.registry.addManifest(repository, 'latest', bytes, manifest.mediaType);
    return layers.map(({ bytes }) => digestOf(bytes));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.registry[Symbol.asyncDispose]();
  }
}

function describe(bytes: Buffer, mediaType: string): { mediaType: string; digest: Digest; size: number } {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}
