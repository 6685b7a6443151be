import { type Digest, digestOf } from '../../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../../src/core/media-types.ts';
import type { ScriptedRegistry } from '../../registry/scripted-registry.ts';

/** A layer of an image as its manifest has it. */
export interface ImageLayer {
  readonly bytes: Buffer;
  /** Gzip when not given. */
  readonly mediaType?: string;
  /** Of the tar. */
  readonly diffId: Digest;
  /** What the manifest says of its size; the truth when not given. */
  readonly claimedBytes?: number;
}

/** An image for one platform, as bytes. */
export interface Image {
  readonly manifest: Buffer;
  readonly mediaType: string;
  /** The config and the layers. */
  readonly blobs: readonly Buffer[];
}

/** An image for this machine. @param layers from the lowest up @param fields further fields of its config */
export function image(layers: readonly ImageLayer[], fields: object = {}): Image {
  const config = Buffer.from(
    JSON.stringify({
      os: 'linux',
      architecture: process.arch === 'x64' ? 'amd64' : process.arch,
      rootfs: { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) },
      ...fields,
    }),
  );
  const mediaType = MEDIA_TYPES.ociManifest;
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: describe(config, MEDIA_TYPES.ociConfig),
    layers: layers.map(
      ({ bytes, mediaType: type = MEDIA_TYPES.ociLayerGzip, claimedBytes = bytes.length }) => ({
        ...describe(bytes, type),
        size: claimedBytes,
      }),
    ),
  };
  const blobs = [config, ...layers.map(({ bytes }) => bytes)];
  return { manifest: Buffer.from(JSON.stringify(manifest)), mediaType, blobs };
}

/**
 * Put an image into a registry, by its digest and by `tag` if that is given. @returns the digest of its
 * manifest
 */
export async function addImage(
  registry: ScriptedRegistry,
  repository: string,
  { manifest, mediaType, blobs }: Image,
  tag?: string,
): Promise<Digest> {
  for (const blob of blobs) await registry.addBlob(repository, Uint8Array.from(blob));
  const digest = registry.addManifest(repository, digestOf(manifest), manifest, mediaType);
  return tag === undefined ? digest : registry.addManifest(repository, tag, manifest, mediaType);
}

function describe(bytes: Buffer, mediaType: string): { mediaType: string; digest: Digest; size: number } {
  return { mediaType, digest: digestOf(bytes), size: bytes.length };
}
