import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { MEDIA_TYPES } from '../../src/core/media-types.ts';

const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;
const LONG_DIGEST = `sha512:${'0123456789abcdef'.repeat(8)}`;
const GZIP_LAYER = 'application/vnd.oci.image.layer.v1.tar+gzip';

function descriptor(mediaType: string, more: object = {}): object {
  return { mediaType, digest: DIGEST, size: 12_345, ...more };
}

const SOCI_FIXTURES = ['five-layers-v1.json', 'five-layers-v2.json'].map(
  (name) => JSON.parse(readFileSync(join(import.meta.dirname, '../fixtures/soci', name), 'utf8')) as object,
);

/** JSON documents as registries serve them. */
export const JSON_SEEDS: readonly object[] = [
  ...SOCI_FIXTURES,
  {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: descriptor('application/vnd.oci.image.config.v1+json'),
    layers: [
      descriptor(GZIP_LAYER),
      descriptor(GZIP_LAYER, { digest: LONG_DIGEST, annotations: { a: 'b' } }),
    ],
    annotations: { 'com.amazon.soci.index-digest': DIGEST },
  },
  {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.dockerManifest,
    config: descriptor('application/vnd.docker.container.image.v1+json'),
    layers: [
      descriptor('application/vnd.docker.image.rootfs.diff.tar.gzip', { urls: ['https://example.com/'] }),
    ],
  },
  {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociIndex,
    manifests: [
      descriptor(MEDIA_TYPES.ociManifest, { platform: { architecture: 'amd64', os: 'linux' } }),
      descriptor(MEDIA_TYPES.ociManifest, { platform: { architecture: 'arm', os: 'linux', variant: 'v7' } }),
      descriptor(MEDIA_TYPES.ociManifest, {
        platform: { architecture: 'unknown', os: 'unknown' },
        annotations: {
          'vnd.docker.reference.type': 'attestation-manifest',
          'vnd.docker.reference.digest': DIGEST,
        },
      }),
      descriptor(MEDIA_TYPES.ociManifest, { artifactType: MEDIA_TYPES.sociIndexV2, annotations: {} }),
    ],
  },
  {
    schemaVersion: 2,
    mediaType: MEDIA_TYPES.ociManifest,
    config: { mediaType: MEDIA_TYPES.sociIndexV1, digest: DIGEST, size: 2 },
    layers: [
      descriptor(MEDIA_TYPES.octetStream, {
        annotations: {
          'com.amazon.soci.image-layer-digest': DIGEST,
          'com.amazon.soci.image-layer-mediaType': GZIP_LAYER,
          'com.amazon.soci.span-size': '4194304',
        },
      }),
    ],
    subject: descriptor(MEDIA_TYPES.ociManifest),
    annotations: { 'com.amazon.soci.build-tool-identifier': 'AWS SOCI CLI v0.2' },
  },
  {
    architecture: 'amd64',
    os: 'linux',
    config: { Env: ['PATH=/bin'], Labels: null },
    rootfs: { type: 'layers', diff_ids: [DIGEST, LONG_DIGEST] },
    history: [{ created: '2024-01-01T00:00:00Z' }],
  },
];
