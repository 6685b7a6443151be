import { describe, expect, it } from 'vitest';

import { openClient } from '../helpers/clients/registry-clients.ts';
import { type Script, ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';
import { makeSecret } from '../helpers/secrets.ts';

const PASSWORD = makeSecret('password of the proxy');
const BASIC = `Basic ${Buffer.from(`me:${PASSWORD}`).toString('base64')}`;
const AUTH = { kind: 'basic', username: 'me', password: PASSWORD };

/** A registry that accepts the token `T`, and a token service that responds as `script` says. */
function registry(script: Script): Promise<ScriptedUpstream> {
  return ScriptedUpstream.start((request, response) => {
    const { url, headers } = request;
    if (url.startsWith('/token')) script(request, response);
    else if (headers.authorization === 'Bearer T') response.end('{}');
    else
      response
        .writeHead(401, { 'www-authenticate': `Bearer realm="http://${headers.host ?? ''}/token"` })
        .end();
  });
}

function tokenRequests(upstream: ScriptedUpstream): SeenRequest[] {
  return upstream.requests.filter(({ url }) => !url.startsWith('/v2/'));
}

describe('a token', () => {
  it.each([
    '{"token":"","access_token":"T","expires_in":300}',
    '{"token":"T","access_token":""}',
    '{"token":null,"access_token":"T"}',
    '{"token":"T"}',
    '{"access_token":"T","token_type":"Bearer"}',
    '{"token":" T\\n"}',
    '{"token":"T","expires_in":"300"}',
    '{"token":"T","expires_in":"soon"}',
    '{"token":"T","expires_in":0}',
    '{"token":"T","expires_in":-5}',
    '{"token":"T","expires_in":null}',
    '{"token":"T","expires_in":1e300}',
    '{"token":"T","expires_in":300,"issued_at":"2999-01-01T00:00:00Z"}',
    '{"token":"T","expires_in":300,"issued_at":"1999-01-01T00:00:00Z"}',
    '{"token":"T","expires_in":300,"issued_at":"yesterday"}',
    '{"token":"T","scope":"x","refresh_token":"","extra":{"errors":[]}}',
  ])('is read from %s, and reused', async (answer) => {
    await using upstream = await registry((_request, response) =>
      response.setHeader('content-type', 'text/html').end(answer),
    );
    await using open = await openClient({ name: 'test', url: upstream.url });
    await open.client.ping();
    await open.client.ping();
    expect(upstream.requests.map(({ url }) => url)).toEqual(['/v2/', '/token', '/v2/', '/v2/']);
  });

  it.each([
    ['{"errors":[{"code":"DENIED"}]}', 'UPSTREAM_CREDENTIALS_REFUSED'],
    ['{"error":"invalid_grant"}', 'UPSTREAM_CREDENTIALS_REFUSED'],
    ['{"token":"","access_token":""}', 'UPSTREAM_PROTOCOL'],
    ['<html></html>', 'UPSTREAM_PROTOCOL'],
    ['', 'UPSTREAM_PROTOCOL'],
    ['["T"]', 'UPSTREAM_PROTOCOL'],
  ])('is not in %s', async (answer, code) => {
    await using upstream = await registry((_request, response) => response.end(answer));
    await using open = await openClient({ name: 'test', url: upstream.url });
    await expect(open.client.ping()).rejects.toMatchObject({ code });
  });
});

describe('a token service that redirects', () => {
  it.each([301, 302, 303, 307, 308])(
    'with %i is followed, with the credentials on the same host',
    async (status) => {
      await using upstream = await registry(({ url }, response) =>
        url.startsWith('/token/2')
          ? response.end('{"token":"T"}')
          : response.writeHead(status, { location: url.startsWith('/token/1') ? '2' : '/token/1' }).end(),
      );
      await using open = await openClient({ name: 'test', url: upstream.url, auth: AUTH });
      await open.client.ping();
      expect(tokenRequests(upstream).map(({ url, headers }) => [url, headers.authorization])).toEqual([
        ['/token', BASIC],
        ['/token/1', BASIC],
        ['/token/2', BASIC],
      ]);
    },
  );

  it('to another host sends no credentials there, nor to later hosts', async () => {
    await using upstream = await registry(({ url, headers }, response) =>
      url === '/token'
        ? response.writeHead(307, { location: `${elsewhere.url}/a` }).end()
        : response.end(headers.authorization === undefined ? '{"token":"T"}' : '{}'),
    );
    await using elsewhere = await ScriptedUpstream.start(
      (_request, response) => response.writeHead(307, { location: `${upstream.url}/token/again` }).end(),
      'localhost',
    );
    await using open = await openClient({ name: 'test', url: upstream.url, auth: AUTH });
    await open.client.ping();
    expect(elsewhere.requests.map(({ headers }) => headers.authorization)).toEqual([undefined]);
    expect(tokenRequests(upstream).map(({ url, headers }) => [url, headers.authorization])).toEqual([
      ['/token', BASIC],
      ['/token/again', undefined],
    ]);
  });

  it('forever is an error', async () => {
    await using upstream = await registry((_request, response) =>
      response.writeHead(302, { location: '/token' }).end(),
    );
    await using open = await openClient({ name: 'test', url: upstream.url });
    await expect(open.client.ping()).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
    expect(tokenRequests(upstream)).toHaveLength(11);
  });
});
