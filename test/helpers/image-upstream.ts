import { gzipSync } from 'node:zlib';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

/** A layer of an image as its manifest has it. */
export interface UpstreamLayer {
  readonly bytes: Buffer;
  /** Gzip when not given. */
  readonly mediaType?: string;
  /** Of the tar. */
  readonly diffId: Digest;
  /** What the manifest says of its size; the truth when not given. */
  readonly claimedBytes?: number;
  /** The registry does not have it. */
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
    const { manifest, mediaType, blobs } = imageOf(layers);
    const missing = layers.filter(({ isMissing }) => isMissing === true).map(({ bytes }) => bytes);
    for (const bytes of blobs.filter((blob) => !missing.includes(blob)))
      await this.registry.addBlob(repository, Uint8Array.from(bytes));
    this.registry.addManifest(repository, tag, manifest, mediaType);
    return layers.map(({ bytes }) => digestOf(bytes));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.registry[Symbol.asyncDispose]();
  }
}

/** The documents and blobs of an image for this machine. */
export function imageOf(layers: readonly UpstreamLayer[]): {
  manifest: Buffer;
  mediaType: string;
  blobs: readonly Buffer[];
} {
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
    }),
  );
  const mediaType = MEDIA_TYPES.ociManifest;
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: describe(config, MEDIA_TYPES.ociConfig),
    layers: layers.map(({ bytes, mediaType = MEDIA_TYPES.ociLayerGzip, claimedBytes = bytes.length }) => ({
      ...describe(bytes, mediaType),
      size: claimedBytes,
    })),
  };
  const blobs = [config, ...layers.map(({ bytes }) => bytes)];
  return { manifest: Buffer.from(JSON.stringify(manifest)), mediaType, blobs };
}

function describe(bytes: Buffer, mediaType: string): { mediaType: string; digest: Digest; size: number } {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}
