import { gzipSync } from 'node:zlib';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { KnownRepository, OCI_INDEX, OCI_MANIFEST } from '../helpers/images/known-repository.ts';
import { sendRaw } from '../helpers/clients/raw-request.ts';
import { ROUTE_SAMPLES } from '../helpers/clients/route-samples.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';

const LAYER = gzipSync(tarArchive({ 'etc/passwd': Buffer.from('root:x:0:0') }));
const DIGEST = digestOf(LAYER);
const FOREVER = 'max-age=31536000, immutable';

let known: KnownRepository;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
  await known.upstream.addBlob('team/app', LAYER, DIGEST);
  const config = Buffer.from(
    JSON.stringify({
      architecture: 'amd64',
      os: 'linux',
      rootfs: {
        type: 'layers',
        diff_ids: [digestOf(tarArchive({ 'etc/passwd': Buffer.from('root:x:0:0') }))],
      },
    }),
  );
  await known.upstream.addBlob('team/app', config);
  const descriptor = (mediaType: string, bytes: Buffer): object => ({
    mediaType: `application/vnd.oci.image.${mediaType}`,
    digest: digestOf(bytes),
    size: bytes.byteLength,
  });
  const image = {
    schemaVersion: 2,
    mediaType: OCI_MANIFEST,
    config: descriptor('config.v1+json', config),
    layers: [descriptor('layer.v1.tar+gzip', LAYER)],
  };
  known.upstream.addManifest('team/app', '1.0', Buffer.from(JSON.stringify(image)), OCI_MANIFEST);
  // Everything is there and indexed.
  for (const path of ['manifests/1.0', `blobs/${DIGEST}`, `_soci/layers/${DIGEST}/spans`])
    await known.ask(path);
});

/** The routes of a repository, of the layer that it has. */
const PATHS = Object.values(ROUTE_SAMPLES).map((sample) => sample.replace(/sha256:0+/, DIGEST));
const CONDITIONS: readonly Record<string, string>[] = [
  {},
  { accept: `${OCI_MANIFEST}, ${OCI_INDEX}`, 'user-agent': 'containerd/2.1' },
  { 'accept-encoding': 'gzip' },
  { 'if-none-match': '*' },
];

describe('HEAD', () => {
  it.each([
    '/',
    '/v2/',
    '/v2/_catalog',
    '/v2/team/app/manifests/none',
    ...PATHS,
    `blobs/${digestOf('none')}`,
  ])('of %s has the status and the headers of GET', async (path) => {
    for (const headers of CONDITIONS) {
      const [get, head] = [await known.ask(path, headers), await known.ask(path, headers, 'HEAD')];
      expect(head.status).toBe(get.status);
      expect(head.body.byteLength).toBe(0);
      const wanted = comparable(get.headers);
      // Its text may have what an upstream says to GET alone.
      if (get.status >= 400) delete wanted['content-length'];
      expect(comparable(head.headers)).toEqual(wanted);
    }
  });

  /**
   * Without what belongs to the one request, or says where the bytes were found, which a HEAD does not read.
   */
  function comparable(headers: Headers): Record<string, string> {
    const own = ['date', 'x-request-id', 'cache-status', 'connection', 'keep-alive'];
    return Object.fromEntries([...headers].filter(([name]) => !own.includes(name)));
  }
});

describe('what caches are told', () => {
  it('of a tag: to ask again, and what of the request the answer depends on', async () => {
    for (const method of ['GET', 'HEAD']) {
      const first = await known.ask('manifests/1.0', {}, method);
      expect(first.headers.get('cache-control')).toBe('no-cache');
      expect(first.headers.get('vary')).toBe('accept, user-agent');
      const etag = first.headers.get('etag') ?? '';
      const again = await known.ask('manifests/1.0', { 'if-none-match': `"other", W/${etag}` }, method);
      expect([again.status, again.body.byteLength]).toEqual([304, 0]);
      for (const name of ['etag', 'vary', 'cache-control', 'docker-content-digest'])
        expect(again.headers.get(name), name).toBe(first.headers.get(name));
      const changed = await known.ask('manifests/1.0', { 'if-none-match': '"other"' }, method);
      expect(changed.status).toBe(200);
    }
  });

  it('of what a digest names: to keep it', async () => {
    const { manifestDigest } = known;
    for (const path of [
      `manifests/${manifestDigest}`,
      `blobs/${DIGEST}`,
      `_soci/layers/${DIGEST}/tar`,
      `_soci/layers/${DIGEST}/spans/0`,
      `_soci/layers/${DIGEST}/files/etc/passwd`,
    ]) {
      const answer = await known.ask(path);
      expect([answer.status, answer.headers.get('cache-control'), answer.headers.get('vary')], path).toEqual([
        200,
        FOREVER,
        null,
      ]);
    }
  });

  it('of everything else, errors too: to ask again', async () => {
    for (const path of [
      '/',
      '/v2/',
      '/v2/_catalog',
      'tags/list',
      `referrers/${DIGEST}`,
      `_soci/layers/${DIGEST}`,
      '_soci/images/1.0',
      '_soci/images/1.0/files/etc/passwd',
      'manifests/none',
      `blobs/${digestOf('none')}`,
      '/v3/',
    ])
      expect((await known.ask(path)).headers.get('cache-control'), path).toBe('no-cache');
    const outside = await known.ask(`blobs/${DIGEST}`, { range: 'bytes=1000000-' });
    expect([outside.status, outside.headers.get('cache-control')]).toEqual([416, 'no-cache']);
  });
});

describe('browsers', () => {
  const NOSNIFF = /^x-content-type-options: nosniff\r$/im;

  it('guess no media type of any answer of either listener', async () => {
    const { app } = known;
    const outside = { range: 'bytes=1000000-' };
    const parts = { range: 'bytes=0-0,2-2' };
    const answers = [
      ...(await Promise.all(['/', '/v2/', '/v2/_catalog', '/v3/', ...PATHS].map((path) => known.ask(path)))),
      ...(await Promise.all(PATHS.map((path) => known.ask(path, {}, 'HEAD')))),
      ...(await Promise.all([outside, parts].map((headers) => known.ask(`blobs/${DIGEST}`, headers)))),
      await known.ask('manifests/none'),
      await known.ask('manifests/1.0', { 'if-none-match': '*' }),
      await known.ask('blobs/uploads/', {}, 'POST'),
      ...(await Promise.all(
        ['/', '/healthz', '/readyz', '/metrics', '/api/v1/blobs', '/no/such'].map((path) =>
          fetch(app.adminUrl + path),
        ),
      )),
      await fetch(`${app.adminUrl}/api/v1/warm`, { method: 'POST', body: 'image=x' }),
      await fetch(`${app.adminUrl}/api/v1/warm`, { method: 'DELETE' }),
      await fetch(`${app.adminUrl}/healthz`, { method: 'OPTIONS' }),
    ];
    for (const { status, headers } of answers)
      expect(headers.get('x-content-type-options'), String(status)).toBe('nosniff');
    expect(new Set(answers.map(({ status }) => status)).size).toBeGreaterThan(7);
    for (const url of [app.url, app.adminUrl])
      for (const bytes of ['no HTTP\r\n\r\n', 'CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n'])
        expect(await sendRaw(url, bytes)).toMatch(NOSNIFF);
  });

  it.each([
    ['application/xhtml+xml', 'application/octet-stream'],
    ['application/javascript', 'application/octet-stream'],
    ['application/pdf', 'application/octet-stream'],
    ['application/vnd.example.manifest.v1+json', 'application/octet-stream'],
    ['text/html', OCI_MANIFEST],
    [OCI_MANIFEST.toUpperCase(), OCI_MANIFEST],
    ['application/vnd.oci.artifact.manifest.v1+json', 'application/vnd.oci.artifact.manifest.v1+json'],
  ])('see a manifest that calls itself %s as %s', async (mediaType, contentType) => {
    const bytes = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType, layers: [] }));
    known.upstream.addManifest('team/app', 'odd', bytes, mediaType);
    for (const reference of ['odd', digestOf(bytes)])
      for (const method of ['GET', 'HEAD']) {
        const answer = await known.ask(`manifests/${reference}`, {}, method);
        expect([answer.status, answer.headers.get('content-type')]).toEqual([200, contentType]);
        if (method === 'GET') expect(answer.body).toEqual(bytes);
      }
  });
});
