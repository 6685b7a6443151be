import { describe, expect, it } from 'vitest';

import { parseRegistryPath } from '../../../src/http/requests/registry-path.ts';

const D = `sha256:${'0'.repeat(64)}`;

describe('parseRegistryPath', () => {
  it.each([
    ['/', { route: 'root' }],
    ['/v2/', { route: 'base' }],
    ['/v2', { route: 'base' }],
    ['/v2/_catalog', { route: 'catalog' }],
    ['/v2/a/b/c/manifests/latest', { route: 'manifest', name: 'a/b/c', reference: { tag: 'latest' } }],
    [`/v2/app/manifests/${D}`, { route: 'manifest', name: 'app', reference: { digest: D } }],
    [
      `/v2/app/manifests/sha256%3A${'0'.repeat(64)}`,
      { route: 'manifest', name: 'app', reference: { digest: D } },
    ],
    [
      '/v2/manifests/manifests/manifests',
      { route: 'manifest', name: 'manifests', reference: { tag: 'manifests' } },
    ],
    ['/v2/a/blobs/manifests/x', { route: 'manifest', name: 'a/blobs', reference: { tag: 'x' } }],
    [`/v2/a/b/blobs/${D}`, { route: 'blob', name: 'a/b', digest: D }],
    [`/v2/a/referrers/${D}`, { route: 'referrers', name: 'a', digest: D }],
    ['/v2/a/tags/list', { route: 'tags', name: 'a' }],
    [`/v2/a/_soci/layers/${D}`, { route: 'layer', name: 'a', digest: D }],
    [`/v2/a/_soci/layers/${D}/spans`, { route: 'spans', name: 'a', digest: D }],
    [`/v2/a/_soci/layers/${D}/spans/12`, { route: 'span', name: 'a', digest: D, spanId: 12 }],
    [`/v2/a/_soci/layers/${D}/tar`, { route: 'tar', name: 'a', digest: D }],
    [`/v2/a/_soci/layers/${D}/files`, { route: 'files', name: 'a', digest: D }],
    [
      `/v2/a/_soci/layers/${D}/files/usr/lib/a%20b%2Fc`,
      { route: 'file', name: 'a', digest: D, filePath: 'usr/lib/a b/c' },
    ],
    [
      `/v2/a/_soci/layers/${D}/files/%ff%c3%a9`,
      { route: 'file', name: 'a', digest: D, filePath: '\u00ff\u00c3\u00a9' },
    ],
    ['/v2/a/b/_soci/images/1.0', { route: 'image', name: 'a/b', reference: { tag: '1.0' } }],
    [
      '/v2/a/_soci/images/1.0/files/etc',
      { route: 'imageFile', name: 'a', reference: { tag: '1.0' }, filePath: 'etc' },
    ],
    [
      '/v2/a/_soci/images/1.0/files/',
      { route: 'imageFile', name: 'a', reference: { tag: '1.0' }, filePath: '' },
    ],
  ])('%s', (path, expected) => {
    expect(parseRegistryPath(path)).toEqual(expected);
  });

  it.each([
    [`/hub/library/nginx/blobs/${D}`, { route: 'blob', name: 'hub/library/nginx', digest: D }],
    [`/app/blobs/${D}`, { route: 'blob', name: 'app', digest: D }],
    [`/hub/v2/app/blobs/${D}`, { route: 'blob', name: 'hub/v2/app', digest: D }],
    ['/a/b/manifests/1', { route: 'manifest', name: 'a/b', reference: { tag: '1' } }],
    [`/a/_soci/layers/${D}/tar`, { route: 'tar', name: 'a', digest: D }],
  ])('%s needs no /v2, as mirrors of the snapshotter have none', (path, expected) => {
    expect(parseRegistryPath(path)).toEqual(expected);
  });

  it.each([
    ['/v1/'],
    ['/_catalog'],
    ['/a'],
    ['/a/'],
    ['//manifests/x'],
    ['/manifests/x'],
    ['/a/tags/other'],
    [`/_soci/layers/${D}`],
    ['/healthz'],
    ['/metrics'],
    ['/api/v1/warm'],
    ['/v2/a'],
    ['/v2/a/manifests/'],
    ['/v2//manifests/x'],
    ['/v2/a/tags/other'],
    ['/v2/_catalog/'],
    [`/v2/a/_soci/layers/${D}/other`],
    [`/v2/a/_soci/layers/${D}/tar/x`],
    ['/v2/a/_soci/images'],
    [`/v2/_soci/layers/${D}`],
  ])('%s is no route', (path) => {
    expect(() => parseRegistryPath(path)).toThrow(expect.objectContaining({ code: 'ROUTE_UNKNOWN' }));
  });

  it.each([
    ['/v2/a/blobs/latest', 'DIGEST_INVALID'],
    ['/v2/a/manifests/sha256:totallywrong', 'DIGEST_INVALID'],
    ['/v2/a/manifests/-x', 'MANIFEST_UNKNOWN'],
    ['/v2/a/_soci/images/-x', 'TAG_INVALID'],
    [`/v2/a/_soci/layers/${D}/spans/-1`, 'SPAN_UNKNOWN'],
    [`/v2/a/_soci/layers/${D}/files/%zz`, 'QUERY_INVALID'],
  ])('%s is %s', (path, code) => {
    expect(() => parseRegistryPath(path)).toThrow(expect.objectContaining({ code }));
  });
});
