import { gzipSync } from 'node:zlib';

import { type Digest, digestOf } from '../../src/core/digest.ts';
import type { DemoRegistry } from '../../src/demo/demo-registry.ts';
import { randomBlob } from './random-blob.ts';
import { tarArchive } from './tar-blocks.ts';

/** A layer of an image, as it is sent and as a node unpacks it. */
export interface GzipLayer {
  readonly digest: Digest;
  readonly gzip: Buffer;
  readonly tar: Buffer;
}

/** A layer of two files, half of it noise; another one for another seed. @param level 0 stores bytes as they are */
export function gzipLayer(seed: number, bytes: number, level = 1): GzipLayer {
  const noise = randomBlob(bytes / 2, seed);
  const tar = tarArchive({ [`noise-${seed}`]: noise, [`text-${seed}`]: Buffer.alloc(bytes / 2, 'text ') });
  const gzip = gzipSync(tar, { level });
  return { digest: digestOf(gzip), gzip, tar };
}

/** Put an image of such layers into a registry. @returns the digest of its manifest */
export async function addGzipImage(
  registry: DemoRegistry,
  repository: string,
  tag: string,
  layers: readonly GzipLayer[],
): Promise<Digest> {
  const config = Buffer.from(JSON.stringify({ os: 'linux', architecture: 'amd64', tag }));
  await registry.addBlob(repository, new Uint8Array(config));
  for (const { gzip, digest } of layers) await registry.addBlob(repository, new Uint8Array(gzip), digest);
  const mediaType = 'application/vnd.oci.image.manifest.v1+json';
  const manifest = {
    schemaVersion: 2,
    mediaType,
    config: {
      mediaType: 'application/vnd.oci.image.config.v1+json',
      digest: digestOf(config),
      size: config.byteLength,
    },
    layers: layers.map(({ digest, gzip }) => ({
      mediaType: 'application/vnd.oci.image.layer.v1.tar+gzip',
      digest,
      size: gzip.byteLength,
    })),
  };
  const bytes = Buffer.from(JSON.stringify(manifest));
  registry.addManifest(repository, digestOf(bytes), bytes, mediaType);
  return registry.addManifest(repository, tag, bytes, mediaType);
}
