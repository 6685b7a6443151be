import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { type Script, ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { makeSecret } from '../helpers/secrets.ts';

const PASSWORD = makeSecret('password of the proxy');
const BASIC = `Basic ${Buffer.from(`me:${PASSWORD}`).toString('base64')}`;
const AUTH = { kind: 'basic', username: 'me', password: PASSWORD };
const MANIFEST = JSON.stringify({ schemaVersion: 2, mediaType: MEDIA_TYPES.ociIndex, manifests: [] });

/** Requests, with their credentials. */
function log({ requests }: ScriptedUpstream): string[] {
  return requests.map(({ method, url, headers }) =>
    `${method === 'GET' ? '' : `${method} `}${url} ${headers.authorization ?? '-'}`
      .replace(BASIC, 'BASIC')
      .replace('/v2/app/manifests/', ''),
  );
}

function challenged(
  script: (authorization: string | undefined, host: string) => string | string[] | undefined,
): Script {
  return ({ url, headers }, response) => {
    const challenge = script(headers.authorization, headers.host ?? '');
    if (url.startsWith('/token'))
      response.end(`{"token":"${new URL(url, 'http://x').pathname.slice(7) || 'T'}"}`);
    else if (challenge === undefined) response.end(MANIFEST);
    else response.writeHead(401, { 'www-authenticate': challenge }).end();
  };
}

describe('a challenge', () => {
  it.each<[string, (host: string) => string | string[]]>([
    ['in capitals', (host) => `BEARER REALM="http://${host}/token"`],
    ['without quotes', (host) => `Bearer realm=http://${host}/token?a=b,service=s`],
    ['with single quotes', (host) => `Bearer realm='http://${host}/token'`],
    ['without commas', (host) => `Bearer realm="http://${host}/token" service="s"`],
    ['with blanks', (host) => `  Bearer   realm = "http://${host}/token" , service = "s" `],
    ['behind one that cannot be read', (host) => ['Basic realm="', `Bearer realm="http://${host}/token"`]],
    ['with something that cannot be read', (host) => `Bearer realm="http://${host}/token", @;, service="s"`],
    [
      'behind others',
      (host) => ['Negotiate', 'NTLM', 'Basic realm="x"', `Bearer realm="http://${host}/token"`],
    ],
    [
      'in one header with others',
      (host) => `Negotiate, Basic realm="x", Bearer realm="http://${host}/token"`,
    ],
    [
      'of a service that refuses, and one that does not',
      (host) => [`Bearer realm="http://${host}/none"`, `Bearer realm="http://${host}/token"`],
    ],
  ])('%s is answered with a token', async (_what, challenge) => {
    await using upstream = await ScriptedUpstream.start((request, response) => {
      if (request.url.startsWith('/none')) response.writeHead(404).end();
      else challenged((sent, host) => (sent === 'Bearer T' ? undefined : challenge(host)))(request, response);
    });
    await using open = await openClient({ name: 'test', url: upstream.url });
    await open.client.fetchManifest('app', { tag: '1' });
    expect(log(upstream).at(-1)).toBe('1 Bearer T');
  });

  it.each<[string, (host: string) => string]>([
    ['without a service', () => 'Bearer'],
    ['whose service refuses', (host) => `Bearer realm="http://${host}/none"`],
    ['whose service is none', (host) => `Bearer realm="http://${host}/v2/"`],
  ])('%s is answered with Basic if that is accepted too', async (_what, bearer) => {
    await using upstream = await ScriptedUpstream.start((request, response) => {
      if (request.url.startsWith('/none')) response.writeHead(403).end();
      else if (request.url === '/v2/') response.end('{}');
      else
        challenged((sent, host) => (sent === BASIC ? undefined : [bearer(host), 'basic realm=x']))(
          request,
          response,
        );
    });
    await using open = await openClient({ name: 'test', url: upstream.url, auth: AUTH });
    await open.client.fetchManifest('app', { tag: '1' });
    await open.client.fetchManifest('app', { tag: '2' });
    expect(log(upstream).filter((line) => !line.startsWith('/'))).toEqual(['1 -', '1 BASIC', '2 BASIC']);
  });

  it.each<[string, string | undefined, string[]]>([
    ['none', undefined, ['repository:app:pull']],
    ['an empty one', '', ['repository:app:pull']],
    ['ours', 'repository:app:pull,push', ['repository:app:pull,push']],
    ['one for all', 'aws', ['aws']],
    ['another repository', 'repository:app/b:pull', ['repository:app/b:pull', 'repository:app:pull']],
    ['the catalog', 'registry:catalog:*', ['registry:catalog:*', 'repository:app:pull']],
  ])('of the scope %s is answered with a token for the repository', async (_what, scope, asked) => {
    const named = scope === undefined ? '' : `,scope="${scope}"`;
    await using upstream = await ScriptedUpstream.start(
      challenged((sent, host) =>
        sent === 'Bearer T' ? undefined : `Bearer realm="http://${host}/token"${named}`,
      ),
    );
    await using open = await openClient({ name: 'test', url: upstream.url });
    await open.client.fetchManifest('app', { tag: '1' });
    const token = upstream.requests.find(({ url }) => url.startsWith('/token'));
    expect(new URL(token?.url ?? '', upstream.url).searchParams.getAll('scope')).toEqual(asked);
  });
});

describe('a token that is refused', () => {
  it.each<[string, string]>([
    ['another service', 'realm="http://HOST/refusing",error="invalid_token"'],
    ['another name of the service', 'realm="http://HOST/token/second",service="other"'],
  ])(
    'with %s in the challenge is dropped, and a token of the first service is requested',
    async (_what, second) => {
      let valid = 'first';
      await using upstream = await ScriptedUpstream.start(({ url, headers }, response) => {
        const host = headers.host ?? '';
        const challenge = (parameters: string): unknown =>
          response.writeHead(401, { 'www-authenticate': `Bearer ${parameters.replace('HOST', host)}` }).end();
        if (url.startsWith('/refusing')) response.writeHead(401).end();
        else if (url.startsWith('/token?')) response.end(`{"token":"${valid}"}`);
        else if (url.startsWith('/token/second')) response.end('{"token":"useless"}');
        else if (headers.authorization === `Bearer ${valid}`) response.end(MANIFEST);
        else challenge(headers.authorization === undefined ? 'realm="http://HOST/token"' : second);
      });
      await using open = await openClient({ name: 'test', url: upstream.url });
      await open.client.fetchManifest('app', { tag: '1' });
      valid = 'second';
      await open.client.fetchManifest('app', { tag: '2' });
      await open.client.fetchManifest('app', { tag: '3' });
      expect(log(upstream)).toEqual([
        '1 -',
        '/token?scope=repository%3Aapp%3Apull -',
        '1 Bearer first',
        '2 Bearer first',
        '2 -',
        '/token?scope=repository%3Aapp%3Apull -',
        '2 Bearer second',
        '3 Bearer second',
      ]);
    },
  );

  it('with the same challenge is renewed at once', async () => {
    let valid = 'a';
    await using upstream = await ScriptedUpstream.start(({ url, headers }, response) => {
      if (url.startsWith('/token')) response.end(`{"token":"${valid}"}`);
      else if (headers.authorization === `Bearer ${valid}`) response.end(MANIFEST);
      else
        response
          .writeHead(401, { 'www-authenticate': `Bearer realm="http://${headers.host ?? ''}/token"` })
          .end();
    });
    await using open = await openClient({ name: 'test', url: upstream.url });
    await open.client.fetchManifest('app', { tag: '1' });
    valid = 'b';
    await open.client.fetchManifest('app', { tag: '2' });
    expect(log(upstream).slice(3)).toEqual([
      '2 Bearer a',
      '/token?scope=repository%3Aapp%3Apull -',
      '2 Bearer b',
    ]);
  });
});

it('a token service that moved while a token expired is found again', async () => {
  let place = '/token/1';
  await using upstream = await ScriptedUpstream.start(({ url, headers }, response) => {
    if (url.startsWith(place)) response.end(`{"token":"${place}","expires_in":1e-9}`);
    else if (url.startsWith('/token')) response.writeHead(404).end();
    else if (headers.authorization === `Bearer ${place}`) response.end(MANIFEST);
    else
      response
        .writeHead(401, { 'www-authenticate': `Bearer realm="http://${headers.host ?? ''}${place}"` })
        .end();
  });
  await using open = await openClient({ name: 'test', url: upstream.url });
  await open.client.fetchManifest('app', { tag: '1' });
  place = '/token/2';
  await open.client.fetchManifest('app', { tag: '2' });
  expect(log(upstream).slice(3)).toEqual([
    '/token/1?scope=repository%3Aapp%3Apull -',
    '2 -',
    '/token/2?scope=repository%3Aapp%3Apull -',
    '2 Bearer /token/2',
  ]);
});

describe('a registry that challenges at /v2/ only', () => {
  interface Hiding {
    readonly status: number;
    readonly challenge: string;
    readonly taken: string;
  }

  function hiding({ status, challenge, taken }: Hiding): Promise<ScriptedUpstream> {
    return ScriptedUpstream.start(({ url, headers }, response) => {
      const host = headers.host ?? '';
      if (url.startsWith('/token')) response.end('{"token":"T"}');
      else if (headers.authorization === taken && !url.endsWith('/none')) response.end(MANIFEST);
      else if (url === '/v2/')
        response.writeHead(401, { 'www-authenticate': challenge.replace('HOST', host) }).end();
      else response.writeHead(status).end('{"errors":[{"code":"MANIFEST_UNKNOWN"}]}');
    });
  }

  it.each([401, 403, 404])(
    'and answers %i elsewhere gets the credentials that it asks for',
    async (status) => {
      await using upstream = await hiding({ status, challenge: 'Basic realm="x"', taken: BASIC });
      await using open = await openClient({ name: 'test', url: upstream.url, auth: AUTH });
      await open.client.fetchManifest('app', { tag: '1' });
      await open.client.fetchManifest('app', { tag: '2' });
      await expect(open.client.fetchManifest('app', { tag: 'none' })).rejects.toThrow(String(status));
      expect(log(upstream)).toEqual(['1 -', '/v2/ -', '1 BASIC', '2 BASIC', 'none BASIC']);
    },
  );

  it.each([401, 403, 404])('and answers %i elsewhere gets an anonymous token', async (status) => {
    const challenge = 'Bearer realm="http://HOST/token",service="s"';
    await using upstream = await hiding({ status, challenge, taken: 'Bearer T' });
    await using open = await openClient({ name: 'test', url: upstream.url });
    await open.client.statManifest('app', { tag: '1' });
    await open.client.fetchManifest('app', { tag: '2' });
    expect(log(upstream)).toEqual([
      'HEAD 1 -',
      '/v2/ -',
      '/token?service=s&scope=repository%3Aapp%3Apull -',
      'HEAD 1 Bearer T',
      '1 Bearer T',
      '2 Bearer T',
    ]);
  });

  it.each<[string, string, object]>([
    ['there are no credentials', 'Basic realm="x"', {}],
    ['the token service fails', 'Bearer realm="http://HOST/v2/broken"', { auth: AUTH }],
    ['the challenge is none', 'Digest realm="x"', { auth: AUTH }],
    ['they are not taken either', 'Basic realm="x"', { auth: { ...AUTH, username: 'other' } }],
  ])('is trusted if %s', async (_what, challenge, upstreamOptions) => {
    await using upstream = await hiding({ status: 404, challenge, taken: BASIC });
    await using open = await openClient({ name: 'test', url: upstream.url, ...upstreamOptions });
    for (const tag of ['1', '2'])
      await expect(open.client.fetchManifest('app', { tag })).rejects.toMatchObject({
        code: 'MANIFEST_UNKNOWN',
      });
    expect(log(upstream).filter((line) => line.startsWith('/v2/ '))).toHaveLength(1);
  });

  it('but is open gets no request there', async () => {
    await using upstream = await ScriptedUpstream.start(({ url }, response) =>
      url === '/v2/'
        ? response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end()
        : response.end(MANIFEST),
    );
    await using open = await openClient({ name: 'test', url: upstream.url });
    await open.client.fetchManifest('app', { tag: '1' });
    expect(log(upstream)).toEqual(['1 -']);
  });

  it('causes no credentials to be sent to the token service of another host', async () => {
    await using tokens = await ScriptedUpstream.start(
      (_request, response) => response.end('{"token":"T"}'),
      'localhost',
    );
    const challenge = `Bearer realm="${tokens.url}/token"`;
    await using upstream = await hiding({ status: 404, challenge, taken: 'Bearer T' });
    await using open = await openClient({ name: 'test', url: upstream.url, auth: AUTH });
    await open.client.fetchManifest('app', { tag: '1' });
    expect(log(tokens)).toEqual(['/token?scope=repository%3Aapp%3Apull -']);
  });
});

it('an open registry gets one request at /v2/, however many 404s it sends', async () => {
  await using upstream = await ScriptedUpstream.start(({ url }, response) =>
    url === '/v2/' ? response.end('{}') : response.writeHead(404).end(),
  );
  await using open = await openClient({ name: 'test', url: upstream.url });
  const missing = ['1', '2', '3', '4'].map((tag) => open.client.fetchManifest('app', { tag }));
  for (const outcome of await Promise.allSettled(missing)) expect(outcome.status).toBe('rejected');
  await expect(open.client.statBlob('other', digestOf('x'))).rejects.toMatchObject({ code: 'BLOB_UNKNOWN' });
  expect(log(upstream).filter((line) => line.startsWith('/v2/ '))).toHaveLength(1);
});
