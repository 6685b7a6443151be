import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { type Script, ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';

const CONFIG = { mediaType: MEDIA_TYPES.ociConfig, digest: digestOf('{}'), size: 2 };
const IMAGE = { schemaVersion: 2, config: CONFIG, layers: [] };
const DOCKER_IMAGE = { ...IMAGE, config: { ...CONFIG, mediaType: MEDIA_TYPES.dockerConfig } };
const INDEX = { schemaVersion: 2, manifests: [] };
const SCHEMA_1 = { schemaVersion: 1, name: 'app', fsLayers: [], history: [] };
const ORAS = { mediaType: 'application/vnd.oci.artifact.manifest.v1+json', blobs: [] };

async function fetchTag(script: Script): Promise<{ mediaType: string; digest: string; requests: number }> {
  await using upstream = await ScriptedUpstream.start(script);
  await using open = await openClient({ name: 'test', url: upstream.url });
  const { mediaType, digest } = await open.client.fetchManifest('app', { tag: '1' });
  return { mediaType, digest, requests: upstream.requests.length };
}

function answer(body: string | Buffer, headers: Record<string, string>): Script {
  return (_request, response) => response.writeHead(200, headers).end(body);
}

describe('for a tag', () => {
  it.each<[string, string, string | undefined]>([
    ['a page', '<!DOCTYPE html><html><body>login</body></html>', 'text/html'],
    ['a page that is called a manifest', '\n<html></html>', MEDIA_TYPES.ociManifest],
    ['XML', '<?xml version="1.0"?><Error/>', 'application/xml'],
    ['nothing', '', MEDIA_TYPES.ociManifest],
    ['nothing of no type', '', undefined],
    ['blanks', ' \r\n', MEDIA_TYPES.ociManifest],
    ['text', 'OK', 'text/plain'],
    ['a part of a manifest', JSON.stringify(IMAGE).slice(0, -20), MEDIA_TYPES.ociManifest],
    ['an error with 200', '{"errors":[{"code":"DENIED"}]}', 'application/json'],
    ['an empty object', '{}', MEDIA_TYPES.ociManifest],
    ['a list', '[]', MEDIA_TYPES.ociIndex],
    ['null', 'null', MEDIA_TYPES.ociIndex],
    ['the config of an image', '{"os":"linux","config":{},"rootfs":{}}', MEDIA_TYPES.ociManifest],
  ])('%s is not a manifest', async (_what, body, type) => {
    const asked = fetchTag(answer(body, type === undefined ? {} : { 'content-type': type }));
    await expect(asked).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
  });

  it.each<[string, object, string | undefined, string]>([
    ['text', IMAGE, 'text/plain', MEDIA_TYPES.ociManifest],
    ['text with a charset', DOCKER_IMAGE, 'text/plain; charset=utf-8', MEDIA_TYPES.dockerManifest],
    ['JSON', INDEX, 'application/json', MEDIA_TYPES.ociIndex],
    ['bytes', IMAGE, 'application/octet-stream', MEDIA_TYPES.ociManifest],
    ['HTML', IMAGE, 'text/html', MEDIA_TYPES.ociManifest],
    ['nothing', INDEX, undefined, MEDIA_TYPES.ociIndex],
    ['a list of Docker', INDEX, MEDIA_TYPES.dockerList, MEDIA_TYPES.ociIndex],
    ['an index', IMAGE, MEDIA_TYPES.ociIndex, MEDIA_TYPES.ociManifest],
    ['an image', INDEX, MEDIA_TYPES.ociManifest, MEDIA_TYPES.ociIndex],
    ['schema 1', SCHEMA_1, undefined, MEDIA_TYPES.dockerManifest1],
    ['schema 1 with signatures', { ...SCHEMA_1, signatures: [] }, 'text/plain', MEDIA_TYPES.dockerSigned1],
    [
      'what it says itself',
      { ...IMAGE, mediaType: MEDIA_TYPES.dockerManifest },
      undefined,
      MEDIA_TYPES.dockerManifest,
    ],
    [
      'something else than it says',
      { ...INDEX, mediaType: MEDIA_TYPES.dockerList },
      'text/plain',
      MEDIA_TYPES.dockerList,
    ],
    ['an artifact', ORAS, 'application/json', ORAS.mediaType],
  ])('a manifest labelled %s has the type that its bytes say', async (_what, document, type, expected) => {
    const body = Buffer.from(JSON.stringify(document));
    expect(await fetchTag(answer(body, type === undefined ? {} : { 'content-type': type }))).toEqual({
      mediaType: expected,
      digest: digestOf(body),
      requests: 1,
    });
  });

  it.each(['sha256:' + '1'.repeat(64), 'sha256:short', 'nonsense', ''])(
    'a manifest announced as %j is accepted with its own digest',
    async (announced) => {
      const body = Buffer.from(JSON.stringify(IMAGE));
      const found = await fetchTag(answer(body, { 'docker-content-digest': announced }));
      expect(found).toEqual({ mediaType: MEDIA_TYPES.ociManifest, digest: digestOf(body), requests: 1 });
    },
  );

  it.each([400, 401, 403, 404, 405, 500, 501])(
    'the digest comes by GET where HEAD is refused with %i',
    async (status) => {
      const body = Buffer.from(JSON.stringify(IMAGE));
      await using upstream = await ScriptedUpstream.start(({ method }, response) =>
        method === 'HEAD' ? response.writeHead(status).end() : response.end(body),
      );
      const environment = { SPANDREL_UPSTREAM_RETRIES: '0' };
      await using open = await openClient({ name: 'test', url: upstream.url }, { environment });
      expect((await open.client.statManifest('app', { tag: '1' })).digest).toBe(digestOf(body));
      expect(upstream.requests.filter(({ url }) => url !== '/v2/').map(({ method }) => method)).toEqual([
        'HEAD',
        'GET',
      ]);
    },
  );
});

describe('for a digest', () => {
  const digest = digestOf(JSON.stringify(IMAGE));

  it.each([
    ['a page', '<html></html>', 'UPSTREAM_PROTOCOL'],
    ['nothing', '', 'UPSTREAM_PROTOCOL'],
    ['another manifest', JSON.stringify(INDEX), 'BLOB_CORRUPT'],
    ['a part of it', JSON.stringify(IMAGE).slice(0, -20), 'BLOB_CORRUPT'],
  ])('%s is refused', async (_what, body, code) => {
    await using upstream = await ScriptedUpstream.start(
      answer(body, { 'content-type': MEDIA_TYPES.ociManifest }),
    );
    await using open = await openClient({ name: 'test', url: upstream.url });
    await expect(open.client.fetchManifest('app', { digest })).rejects.toMatchObject({ code });
  });

  it('any content with the digest is accepted', async () => {
    await using upstream = await ScriptedUpstream.start(
      answer('{"of":"another kind"}', { 'content-type': 'text/plain' }),
    );
    await using open = await openClient({ name: 'test', url: upstream.url });
    const found = await open.client.fetchManifest('app', { digest: digestOf('{"of":"another kind"}') });
    expect(found.mediaType).toBe(MEDIA_TYPES.octetStream);
  });
});

describe('a list', () => {
  it.each(['', '{}', '{"errors":[{"code":"DENIED"}]}', '<html></html>', '{"name":"app","tags":{}}', 'null'])(
    'of tags is refused if the upstream sends %j with 200',
    async (body) => {
      await using upstream = await ScriptedUpstream.start(answer(body, {}));
      await using open = await openClient({ name: 'test', url: upstream.url });
      await expect(open.client.listTags('app')).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
    },
  );

  it.each(['{"name":"app"}', '{"name":"app","tags":null}', '{"tags":[]}'])(
    'of no tags is %s',
    async (body) => {
      await using upstream = await ScriptedUpstream.start(answer(body, {}));
      await using open = await openClient({ name: 'test', url: upstream.url });
      expect(await open.client.listTags('app')).toEqual({ tags: [] });
    },
  );

  it.each(['', '{}', '{"errors":[]}', '<html></html>', '{"manifests":{}}'])(
    'of referrers is refused if the upstream sends %j with 200',
    async (body) => {
      await using upstream = await ScriptedUpstream.start(answer(body, {}));
      await using open = await openClient({ name: 'test', url: upstream.url });
      await expect(open.client.listReferrers('app', digestOf('x'))).rejects.toMatchObject({
        code: 'UPSTREAM_PROTOCOL',
      });
      expect(upstream.requests).toHaveLength(1);
    },
  );

  it.each([404, 405, 501])(
    'of referrers comes from the fallback tag if the API is refused with %i',
    async (status) => {
      await using upstream = await ScriptedUpstream.start(({ url }, response) => {
        if (url.includes('/referrers/')) response.writeHead(status).end();
        else if (url === '/v2/') response.end('{}');
        else response.end('{"schemaVersion":2,"manifests":null}');
      });
      await using open = await openClient({ name: 'test', url: upstream.url });
      expect(await open.client.listReferrers('app', digestOf('x'))).toEqual([]);
      expect(upstream.requests.at(-1)?.url).toBe(`/v2/app/manifests/${digestOf('x').replace(':', '-')}`);
    },
  );

  it.each([
    [500, 'UPSTREAM_UNREACHABLE'],
    [429, 'UPSTREAM_THROTTLED'],
    [403, 'DENIED'],
    [200, 'UPSTREAM_PROTOCOL'],
  ])('of referrers fails if the fallback tag answers %i', async (status, code) => {
    await using upstream = await ScriptedUpstream.start(({ url }, response) =>
      response.writeHead(url.includes('/referrers/') ? 404 : status).end('<html></html>'),
    );
    const environment = { SPANDREL_UPSTREAM_RETRIES: '0' };
    await using open = await openClient({ name: 'test', url: upstream.url }, { environment });
    await expect(open.client.listReferrers('app', digestOf('x'))).rejects.toMatchObject({ code });
  });
});
