import { gzipSync } from 'node:zlib';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import type { ScriptedRegistry } from '../registry/scripted-registry.ts';
import { randomBlob } from './random-blob.ts';
import { tarArchive } from './tar-blocks.ts';

/** A layer of an image, as it is sent and as a node unpacks it. */
export interface PackedLayer {
  readonly digest: Digest;
  readonly packed: Buffer;
  readonly tar: Buffer;
}

/** A layer of two files, half of it noise; another one for another seed. */
export function packedLayer(seed: number, bytes: number, pack: (tar: Buffer) => Buffer): PackedLayer {
  const noise = randomBlob(bytes / 2, seed);
  const tar = tarArchive({ [`noise-${seed}`]: noise, [`text-${seed}`]: Buffer.alloc(bytes / 2, 'text ') });
  const packed = pack(tar);
  return { digest: digestOf(packed), packed, tar };
}

/** As {@link packedLayer}. */
export function seededGzipLayer(seed: number, bytes: number): PackedLayer {
  return packedLayer(seed, bytes, (tar) => gzipSync(tar, { level: 1 }));
}

/** Put an image of such layers into a registry; its media types say gzip, whatever they are. @returns the digest of its manifest */
export async function addPackedImage(
  registry: ScriptedRegistry,
  repository: string,
  tag: string,
  layers: readonly PackedLayer[],
): Promise<Digest> {
  const config = Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', tag }));
  await registry.addBlob(repository, new Uint8Array(config));
  for (const { packed, digest } of layers) await registry.addBlob(repository, new Uint8Array(packed), digest);
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(config),
      size: config.byteLength,
    },
    layers: layers.map(({ digest, packed }) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest,
      size: packed.byteLength,
    })),
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  registry.addManifest(repository, digestOf(bytes), bytes, mediaType);
  return registry.addManifest(repository, tag, bytes, mediaType);
}
