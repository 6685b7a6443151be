import { expect, it } from 'vitest';

import { layerCompression } from '../../src/core/layer-compression.ts';
import { digestOf } from '../../src/core/digest.ts';
import { skipReason, sociCompression } from '../../src/soci/skip-reason.ts';

const OCI = 'application/vnd.oci.image.layer';
const DOCKER = 'application/vnd.docker.image.rootfs';

it.each([
  [`${OCI}.v1.tar`, 'none', 'none'],
  [`${OCI}.v1.tar+gzip`, 'gzip', 'gzip'],
  [`${OCI}.v1.tar+zstd`, 'zstd', undefined],
  [`${OCI}.v1.tar+gzip+encrypted`, 'gzip', 'gzip'],
  [`${OCI}.nondistributable.v1.tar+gzip`, 'gzip', 'gzip'],
  [`${OCI}.nondistributable.v1.tar`, undefined, undefined],
  [`${DOCKER}.diff.tar`, 'none', 'none'],
  [`${DOCKER}.diff.tar.gzip`, 'gzip', 'gzip'],
  [`${DOCKER}.foreign.diff.tar.gzip`, 'gzip', 'gzip'],
  [`${DOCKER}.diff.tar.gzip+encrypted`, undefined, undefined],
  [`${DOCKER}.diff.tar.zstd`, 'zstd', undefined],
  ['application/vnd.in-toto+json', undefined, undefined],
])('%s is %s, and for soci %s', (mediaType, compression, soci) => {
  expect(layerCompression(mediaType)).toBe(compression);
  expect(sociCompression(mediaType)).toBe(soci);
});

it('leaves out layers below the minimum size, and indexes one of exactly that size', () => {
  const layer = { digest: digestOf(''), mediaType: `${OCI}.v1.tar+gzip` };
  expect(skipReason({ ...layer, size: 99 }, 100)).toBe('too_small');
  expect(skipReason({ ...layer, size: 100 }, 100)).toBeUndefined();
  expect(skipReason({ ...layer, size: 100, mediaType: `${OCI}.v1.tar+zstd` }, 100)).toBe(
    'unsupported_format',
  );
});
