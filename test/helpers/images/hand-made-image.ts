import { createHash } from 'node:crypto';
import { gunzipSync, gzipSync } from 'node:zlib';

import { type KnownRepository, OCI_INDEX, OCI_MANIFEST } from './known-repository.ts';
import { tarArchive } from '../layers/tar-blocks.ts';

export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
export const OCI_LAYER_GZIP = 'application/vnd.oci.image.layer.v1.tar+gzip';

/** A descriptor as a test writes it: it need not be a good one. */
export interface WrittenDescriptor {
  readonly mediaType: string;
  readonly digest: string;
  readonly size: number;
  readonly platform?: object;
  readonly [field: string]: unknown;
}

/** The descriptor of some bytes, by a hash of our own. */
export function describeBytes(bytes: Uint8Array, mediaType: string, more: object = {}): WrittenDescriptor {
  const digest = `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
  return { mediaType, digest, size: bytes.byteLength, ...more };
}

/** A layer with these files, which stays with the test. */
export function gzipLayer(files: Readonly<Record<string, string>>): Buffer {
  const entries = Object.entries(files).map(([name, text]) => [name, Buffer.from(text)] as const);
  return gzipSync(tarArchive(Object.fromEntries(entries)));
}

export interface ImageParts {
  /** Layers to push, or descriptors of what is not pushed. */
  readonly layers: readonly (Buffer | WrittenDescriptor)[];
  readonly architecture?: string;
  /** Instead of the config's descriptor. */
  readonly config?: unknown;
  readonly tag?: string;
}

/** Push an image for linux to `team/app`. @returns the descriptor of its manifest, without a platform */
export async function pushImage(known: KnownRepository, parts: ImageParts): Promise<WrittenDescriptor> {
  const { architecture = 'amd64' } = parts;
  const layers: WrittenDescriptor[] = [];
  const diffIds: string[] = [];
  for (const layer of parts.layers) {
    diffIds.push(diffIdOf(layer));
    if (!Buffer.isBuffer(layer)) layers.push(layer);
    else {
      await known.upstream.addBlob('team/app', new Uint8Array(layer));
      layers.push(describeBytes(layer, OCI_LAYER_GZIP));
    }
  }
  const config = Buffer.from(
    JSON.stringify({ os: 'linux', architecture, rootfs: { type: 'layers', diff_ids: diffIds } }),
  );
  await known.upstream.addBlob('team/app', new Uint8Array(config));
  const bytes = Buffer.from(
    JSON.stringify({
      schemaVersion: 2,
      mediaType: OCI_MANIFEST,
      config: 'config' in parts ? parts.config : describeBytes(config, OCI_CONFIG),
      layers,
    }),
  );
  const described = describeBytes(bytes, OCI_MANIFEST);
  known.upstream.addManifest('team/app', parts.tag ?? described.digest, bytes, OCI_MANIFEST);
  return described;
}

/** Digest of the decompressed layer; some other where it cannot be decompressed. */
function diffIdOf(layer: Buffer | WrittenDescriptor): string {
  return describeBytes(Buffer.isBuffer(layer) ? decompress(layer) : Buffer.alloc(0), '').digest;
}

function decompress(layer: Buffer): Buffer {
  try {
    return gunzipSync(layer);
  } catch {
    return Buffer.alloc(0);
  }
}

/** Push an index to `team/app`. @returns its descriptor */
export function pushIndex(
  known: KnownRepository,
  manifests: readonly WrittenDescriptor[],
  tag?: string,
): WrittenDescriptor {
  const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: OCI_INDEX, manifests }));
  const described = describeBytes(bytes, OCI_INDEX);
  known.upstream.addManifest('team/app', tag ?? described.digest, bytes, OCI_INDEX);
  return described;
}

/** `platform` of a descriptor. */
export function forLinux(architecture: string, variant?: string): { platform: object } {
  return { platform: { os: 'linux', architecture, ...(variant === undefined ? {} : { variant }) } };
}
