import { gzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { CODINGS } from '../helpers/clients/content-codings.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';

const REFERRER = { mediaType: MEDIA_TYPES.ociManifest, digest: digestOf('referrer'), size: 8 };
const MANIFEST = Buffer.from(
  JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [] }),
);

/** A registry with a token service that encodes every response. */
function packing(header: string, encode: (plain: Buffer) => Buffer): Promise<ScriptedUpstream> {
  return ScriptedUpstream.start(({ url, headers, method }, response) => {
    const host = headers.host ?? '';
    response.setHeader('content-encoding', header);
    const send = (body: string | Buffer): unknown =>
      response.end(method === 'HEAD' ? undefined : encode(Buffer.from(body)));
    if (url.startsWith('/token')) send('{"token":"T"}');
    else if (headers.authorization !== 'Bearer T')
      send.call(response.writeHead(401, { 'www-authenticate': `Bearer realm="http://${host}/token"` }), '{}');
    else if (url.includes('/tags/')) send('{"name":"app","tags":["a"]}');
    else if (url.includes('/referrers/')) send(JSON.stringify({ schemaVersion: 2, manifests: [REFERRER] }));
    else if (url.includes('/none'))
      send.call(response.writeHead(404), '{"errors":[{"code":"NAME_UNKNOWN"}]}');
    else send(MANIFEST);
  });
}

describe.each(CODINGS.map(([header, encode], place) => ({ header, encode, place })))(
  'an upstream that encodes every response as $header ($place)',
  ({ header, encode }) => {
    it('is read: tokens, manifests, tags, referrers and errors, with one request for each', async () => {
      await using upstream = await packing(header, encode);
      await using open = await openClient({ name: 'test', url: upstream.url });
      const { client } = open;
      const manifest = await client.fetchManifest('app', { tag: '1' });
      expect(Buffer.from(manifest.bytes).equals(MANIFEST)).toBe(true);
      expect(manifest.digest).toBe(digestOf(MANIFEST));
      expect((await client.fetchManifest('app', { digest: digestOf(MANIFEST) })).mediaType).toBe(
        MEDIA_TYPES.ociIndex,
      );
      expect(await client.listTags('app')).toEqual({ tags: ['a'] });
      expect(await client.listReferrers('app', digestOf('x'))).toEqual([REFERRER]);
      await expect(client.fetchManifest('app', { tag: 'none' })).rejects.toMatchObject({
        code: 'NAME_UNKNOWN',
      });
      expect(upstream.requests.map(({ url }) => url.replace(/sha256:.*/, ''))).toEqual([
        '/v2/app/manifests/1',
        '/token?scope=repository%3Aapp%3Apull',
        '/v2/app/manifests/1',
        '/v2/app/manifests/',
        '/v2/app/tags/list',
        '/v2/app/referrers/',
        '/v2/app/manifests/none',
      ]);
      expect(upstream.requests.every(({ headers }) => headers['accept-encoding'] === 'identity')).toBe(true);
    });
  },
);

it.each([
  ['as they come', Buffer.alloc(3 * 2 ** 20, ' ')],
  ['when they are unpacked', gzipSync(Buffer.alloc(3 * 2 ** 20, ' '))],
])('manifests are limited %s', async (_when, body) => {
  await using upstream = await ScriptedUpstream.start((_request, response) =>
    response.setHeader('content-encoding', body.length > 2 ** 20 ? 'identity' : 'gzip').end(body),
  );
  const environment = { SPANDREL_LIMITS_MAX_MANIFEST_BYTES: '2MiB' };
  await using open = await openClient({ name: 'test', url: upstream.url }, { environment });
  await expect(open.client.fetchManifest('app', { tag: '1' })).rejects.toMatchObject({
    code: 'UPSTREAM_PROTOCOL',
    message: 'upstream test: the response has more than 2097152 bytes',
  });
  expect(upstream.requests).toHaveLength(1);
});
