import type { RepositoryPath } from '../../../src/http/requests/registry-path.ts';

const DIGEST = `sha256:${'0'.repeat(64)}`;

/**
 * A path of every route of the registry listener, below a repository; a new route has to be added to compile.
 */
export const ROUTE_SAMPLES: Readonly<Record<RepositoryPath['route'], string>> = {
  manifest: 'manifests/1.0',
  blob: `blobs/${DIGEST}`,
  referrers: `referrers/${DIGEST}`,
  tags: 'tags/list',
  layer: `_soci/layers/${DIGEST}`,
  spans: `_soci/layers/${DIGEST}/spans`,
  span: `_soci/layers/${DIGEST}/spans/0`,
  tar: `_soci/layers/${DIGEST}/tar`,
  files: `_soci/layers/${DIGEST}/files`,
  file: `_soci/layers/${DIGEST}/files/etc/passwd`,
  image: '_soci/images/1.0',
  imageStarts: '_soci/images/1.0/starts',
  imageProfile: '_soci/images/1.0/profile',
  imageFile: '_soci/images/1.0/files/etc/passwd',
};
