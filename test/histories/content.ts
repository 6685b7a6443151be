import { createHash } from 'node:crypto';
import { gzipSync, zstdCompressSync } from 'node:zlib';

import { randomBlob } from '../helpers/layers/random-blob.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { tarFile } from '../helpers/layers/tar-blocks.ts';

/** A layer with known content, compressed and not. */
export interface KnownLayer {
  readonly digest: string;
  readonly mediaType: string;
  readonly packed: Buffer;
  readonly tar: Buffer;
  readonly diffId: string;
  readonly files: ReadonlyMap<string, Buffer>;
}

/** A document or a config. */
export interface KnownBytes {
  readonly digest: string;
  readonly mediaType: string;
  readonly bytes: Buffer;
}

export interface KnownImage {
  readonly architecture: string;
  readonly config: KnownBytes;
  readonly layers: readonly KnownLayer[];
  readonly manifest: KnownBytes;
}

/** A target of a tag: an image, or an index of several. */
export interface KnownTop {
  readonly document: KnownBytes;
  readonly images: readonly KnownImage[];
}

export interface KnownRepository {
  readonly name: string;
  readonly tops: readonly KnownTop[];
}

/** The upstream's content, generated from a seed. */
export interface Content {
  readonly layers: readonly KnownLayer[];
  readonly repositories: readonly KnownRepository[];
}

export const TAGS = ['latest', 'next'] as const;
export const OCI_INDEX = 'application/vnd.oci.image.index.v1+json';
export const OCI_MANIFEST = 'application/vnd.oci.image.manifest.v1+json';
export const OCI_CONFIG = 'application/vnd.oci.image.config.v1+json';
const OCI_LAYER = 'application/vnd.oci.image.layer.v1.tar';

const KINDS = ['gzip', 'gzip', 'gzip', 'stored', 'zstd', 'none'] as const;
const LAYER_COUNT = 8;
const MIN_FILE_BYTES = 500;
const MAX_FILE_BYTES = 120_000;
const MAX_FILES = 6;
/** In every layer; the topmost one is visible. */
export const SHARED_FILE = 'etc/shared';

export function sha256(bytes: Uint8Array): string {
  return `sha256:${createHash('sha256').update(bytes).digest('hex')}`;
}

/** Deterministic for a seed. */
export function makeContent(seed: number): Content {
  const random = seededRandom(seed);
  const below = (end: number): number => Math.floor(random() * end);
  const layers = Array.from({ length: LAYER_COUNT }, (_, place) => makeLayer(seed, place, below));
  const pick = (count: number): KnownLayer[] => {
    const from = below(LAYER_COUNT);
    return Array.from({ length: count }, (_, place) => layers[(from + place) % LAYER_COUNT] as KnownLayer);
  };
  const single = (name: string, count: number): KnownTop => {
    const image = makeImage(name, 'amd64', pick(count));
    return { document: image.manifest, images: [image] };
  };
  const [shared, moved, other] = [single('shared', 3), single('moved', 2), single('other', 1)];
  const several = makeIndex([makeImage('amd', 'amd64', pick(2)), makeImage('arm', 'arm64', pick(2))]);
  return {
    layers,
    repositories: [
      { name: 'team/one', tops: [shared, moved, several] },
      { name: 'team/two', tops: [other, shared] },
    ],
  };
}

function makeLayer(seed: number, place: number, below: (end: number) => number): KnownLayer {
  const files = new Map<string, Buffer>([[SHARED_FILE, Buffer.from(`layer ${place} of ${seed}\n`)]]);
  for (let count = 1 + below(MAX_FILES); count > 0; count--) {
    const bytes = MIN_FILE_BYTES + below(MAX_FILE_BYTES);
    const noise = randomBlob(Math.floor(bytes / 2), seed + 31 * place + count);
    const text = Buffer.alloc(bytes - noise.length, `line ${count} of layer ${place}\n`);
    files.set(`layer-${place}/file-${count}`, Buffer.concat([noise, text]));
  }
  const tar = Buffer.concat([
    ...Array.from(files, ([name, data]) => tarFile(name, data)),
    Buffer.alloc(1024),
  ]);
  const { packed, suffix } = pack(tar, KINDS[place % KINDS.length] ?? 'gzip');
  const mediaType = `${OCI_LAYER}${suffix}`;
  return { digest: sha256(packed), mediaType, packed, tar, diffId: sha256(tar), files };
}

/** In stored blocks a damaged byte damages only itself, so only a checksum finds it. */
function pack(tar: Buffer, kind: (typeof KINDS)[number]): { packed: Buffer; suffix: string } {
  switch (kind) {
    case 'gzip':
      return { packed: gzipSync(tar, { level: 6 }), suffix: '+gzip' };
    case 'stored':
      return { packed: gzipSync(tar, { level: 0 }), suffix: '+gzip' };
    case 'zstd':
      return { packed: zstdCompressSync(tar), suffix: '+zstd' };
    case 'none':
      return { packed: tar, suffix: '' };
  }
}

function makeImage(name: string, architecture: string, layers: readonly KnownLayer[]): KnownImage {
  const rootfs = { type: 'layers', diff_ids: layers.map(({ diffId }) => diffId) };
  const config = asJson(OCI_CONFIG, { architecture, os: 'linux', config: { Labels: { name } }, rootfs });
  const manifest = asJson(OCI_MANIFEST, {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: describe(config),
    layers: layers.map(({ mediaType, digest, packed }) => ({ mediaType, digest, size: packed.length })),
  });
  return { architecture, config, layers, manifest };
}

function makeIndex(images: readonly KnownImage[]): KnownTop {
  const manifests = images.map(({ manifest, architecture }) => ({
    ...describe(manifest),
    platform: { os: 'linux', architecture },
  }));
  const document = asJson(OCI_INDEX, { schemaVersion: 2, mediaType: OCI_INDEX, manifests });
  return { document, images };
}

function asJson(mediaType: string, value: unknown): KnownBytes {
  const bytes = Buffer.from(JSON.stringify(value));
  return { digest: sha256(bytes), mediaType, bytes };
}

function describe({ mediaType, digest, bytes }: KnownBytes): object {
  return { mediaType, digest, size: bytes.length };
}

/** The files of an image on a node: for each name, that of the topmost layer. */
export function mergedFiles({ layers }: KnownImage): Map<string, Buffer> {
  return new Map(layers.flatMap(({ files }) => [...files]));
}

/** Layers and configs of a repository, by digest. */
export function blobsOf({ tops }: KnownRepository): Map<string, Buffer> {
  const images = tops.flatMap(({ images }) => images);
  return new Map([
    ...images.map(({ config }) => [config.digest, config.bytes] as const),
    ...images.flatMap(({ layers }) => layers.map(({ digest, packed }) => [digest, packed] as const)),
  ]);
}

/** All manifests of a repository, by digest. */
export function documentsOf({ tops }: KnownRepository): Map<string, KnownBytes> {
  const all = tops.flatMap(({ document, images }) => [document, ...images.map(({ manifest }) => manifest)]);
  return new Map(all.map((document) => [document.digest, document]));
}
