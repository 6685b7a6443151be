import { gzipSync } from 'node:zlib';

import { type Digest, digestOf } from '../../../src/core/digest.ts';
import type { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { addImage, image } from './image.ts';
import { randomBlob } from '../layers/random-blob.ts';
import { tarArchive } from '../layers/tar-blocks.ts';

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

/**
 * Put an image of such layers into a registry; its media types say gzip, whatever they are. @returns the
 * digest of its manifest
 */
export function addPackedImage(
  registry: ScriptedRegistry,
  repository: string,
  tag: string,
  layers: readonly PackedLayer[],
): Promise<Digest> {
  const parts = layers.map(({ packed, tar }) => ({ bytes: packed, diffId: digestOf(tar) }));
  return addImage(registry, repository, image(parts, { architecture: 'amd64', tag }), tag);
}
