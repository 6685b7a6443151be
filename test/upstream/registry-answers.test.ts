import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import type { RegistryClient } from '../../src/upstream/registry-client.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { type Script, ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { openClient } from '../helpers/clients/registry-clients.ts';
import { makeSecret } from '../helpers/secrets.ts';

const BLOB = Buffer.from('0123456789');
const BASIC = { kind: 'basic', username: 'me', password: makeSecret('password of the proxy') };
const signal = new AbortController().signal;

async function connect(script: Script, upstream: object = {}): Promise<[ScriptedUpstream, RegistryClient]> {
  const registry = cleanup.use(await ScriptedUpstream.start(script));
  const { client } = cleanup.use(
    await openClient(
      { name: 'test', url: registry.url, ...upstream },
      { environment: { SPANDREL_UPSTREAM_RETRIES: '1' } },
    ),
  );
  return [registry, client];
}

async function fetchRange(client: RegistryClient): Promise<string> {
  const { body } = await client.blobSource('app', digestOf(BLOB)).fetch({ start: 2, end: 5 }, signal);
  const chunks: Buffer[] = [];
  for await (const chunk of body) chunks.push(chunk);
  return Buffer.concat(chunks).toString();
}

describe('a blob response', () => {
  it.each<[string, number, Record<string, string>, string, number]>([
    ['of another range', 206, { 'content-range': 'bytes 3-5/10' }, '345', 2],
    ['that does not say its range', 206, {}, '234', 2],
    ['of an unknown size', 206, { 'content-range': 'bytes 2-4/*' }, '234', 2],
    ['with an impossible range', 206, { 'content-range': 'bytes 2-4/3' }, '234', 2],
    ['that has less than it says', 206, { 'content-range': 'bytes 2-4/10' }, '23', 1],
    ['that has no such range', 416, { 'content-range': 'bytes */10' }, '', 2],
  ])('%s is refused if the whole blob is no better', async (_what, status, headers, body, requests) => {
    const [registry, client] = await connect((_request, response) => {
      response.writeHead(status, headers);
      // Two writes: no Content-Length of the server's own.
      response.write(body.slice(0, 1));
      response.end(body.slice(1));
    });
    await expect(fetchRange(client)).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
    expect(registry.requests.map(({ headers: { range } }) => range)).toEqual(
      ['bytes=2-4', undefined].slice(0, requests),
    );
  });

  it('of the whole blob is accepted', async () => {
    const [registry, client] = await connect((_request, response) => response.end(BLOB));
    const answer = await client.blobSource('app', digestOf(BLOB)).fetch({ start: 2, end: 5 }, signal);
    expect(answer).toMatchObject({ range: { start: 0, end: 10 }, totalBytes: 10 });
    expect(registry.requests[0]?.headers).toMatchObject({
      range: 'bytes=2-4',
      'accept-encoding': 'identity',
    });
    for await (const _ of answer.body) break;
  });

  it('makes the proxy request the whole blob if a first range beyond its end is refused', async () => {
    const [registry, client] = await connect(({ headers }, response) =>
      headers.range === undefined ? response.end(BLOB) : response.writeHead(416).end('no such range'),
    );
    const answer = await client.blobSource('app', digestOf(BLOB)).fetch({ start: 0, end: 50 }, signal);
    expect(answer.range).toEqual({ start: 0, end: 10 });
    for await (const _ of answer.body) break;
    expect(registry.requests.map(({ headers }) => headers.range)).toEqual(['bytes=0-49', undefined]);
  });

  it('of an empty blob has no range', async () => {
    const [, client] = await connect((_request, response) =>
      response.writeHead(416, { 'content-range': 'bytes */0' }).end(),
    );
    const answer = await client.blobSource('app', digestOf('')).fetch({ start: 0, end: 5 }, signal);
    expect(answer).toMatchObject({ range: { start: 0, end: 0 }, totalBytes: 0 });
  });
});

describe('a redirect', () => {
  it.each([
    'http://169.254.169.254/latest/meta-data',
    'http://[fe80::1]/x',
    'http://[fd00:ec2::254]/x',
    'http://[::ffff:169.254.169.254]/x',
    'http://me:secret@127.0.0.1/x',
    'ftp://127.0.0.1/x',
    'http://',
  ])('to %s is not followed', async (location) => {
    const [, client] = await connect((_request, response) => response.writeHead(307, { location }).end());
    await expect(fetchRange(client)).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
  });

  it('is followed at most ten times', async () => {
    const [registry, client] = await connect((_request, response) =>
      response.writeHead(307, { location: '/again' }).end(),
    );
    await expect(fetchRange(client)).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
    expect(registry.requests).toHaveLength(11);
  });
});

describe('a token service', () => {
  it('of another host gets no credentials, and a request for an anonymous token', async () => {
    await using tokens = await ScriptedUpstream.start(
      (_request, response) => response.end('{"access_token":"anonymous"}'),
      'localhost',
    );
    const [registry, client] = await connect(
      ({ headers }, response) =>
        headers.authorization === 'Bearer anonymous'
          ? response.end('{}')
          : response
              .writeHead(401, { 'www-authenticate': `Bearer realm="${tokens.url}/token",service="s"` })
              .end(),
      { auth: BASIC },
    );
    await client.ping();
    expect(tokens.requests.map(({ url, headers }) => [url, headers.authorization])).toEqual([
      ['/token?service=s', undefined],
    ]);
    expect(registry.requests.map(({ headers }) => headers.authorization)).toEqual([
      undefined,
      'Bearer anonymous',
    ]);
  });

  it.each(['{}', '{"token":"a\\r\\nb"}', 'no JSON', '{"token":5}'])(
    'that answers %s is at fault',
    async (answer) => {
      const [, client] = await connect(({ url, headers }, response) =>
        url.startsWith('/token')
          ? response.end(answer)
          : response
              .writeHead(401, { 'www-authenticate': `Bearer realm="http://${headers.host ?? ''}/token"` })
              .end(),
      );
      await expect(client.ping()).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
    },
  );

  it('gets one more request when its token is refused', async () => {
    const [registry, client] = await connect(({ url, headers }, response) =>
      url.startsWith('/token')
        ? response.end('{"token":"t"}')
        : response
            .writeHead(401, { 'www-authenticate': `Bearer realm="http://${headers.host ?? ''}/token"` })
            .end(),
    );
    await expect(client.ping()).rejects.toMatchObject({ code: 'UPSTREAM_CREDENTIALS_REFUSED' });
    expect(registry.requests.map(({ url }) => url)).toEqual(['/v2/', '/token', '/v2/']);
  });
});

describe('lists', () => {
  it('of tags pass on n and last, and use only the query of the Link', async () => {
    const [registry, client] = await connect((_request, response) =>
      response
        .writeHead(200, { link: '<http://169.254.169.254/x?last=b%2Bc&n=2>; rel="next"' })
        .end('{"name":"app","tags":["a","b+c"]}'),
    );
    expect(await client.listTags('app', { limit: 2, last: 'A' })).toEqual({
      tags: ['a', 'b+c'],
      next: 'b+c',
    });
    expect(registry.requests[0]?.url).toBe('/v2/app/tags/list?n=2&last=A');
  });

  it('of tags are paged for a registry that always sends all of them', async () => {
    const [, client] = await connect((_request, response) => response.end('{"tags":["a","b","c","d","e"]}'));
    expect(await client.listTags('app', { limit: 2 })).toEqual({ tags: ['a', 'b'], next: 'b' });
    expect(await client.listTags('app', { limit: 2, last: 'b' })).toEqual({ tags: ['c', 'd'], next: 'd' });
    expect(await client.listTags('app', { limit: 2, last: 'd' })).toEqual({ tags: ['e'] });
  });

  it.each(['{"manifests":5}', '{"manifests":[{}]}', '[]', 'no JSON'])(
    'of referrers cannot be %s',
    async (body) => {
      const [, client] = await connect((_request, response) => response.end(body));
      await expect(client.listReferrers('app', digestOf('x'))).rejects.toMatchObject({
        code: 'UPSTREAM_PROTOCOL',
      });
    },
  );

  it('of referrers have a limited number of pages', async () => {
    const [registry, client] = await connect((_request, response) =>
      response.writeHead(200, { link: '<?page=next>; rel="next"' }).end('{"manifests":[]}'),
    );
    await expect(client.listReferrers('app', digestOf('x'))).rejects.toMatchObject({
      code: 'UPSTREAM_PROTOCOL',
    });
    expect(registry.requests).toHaveLength(100);
  });
});

it('errors contain no signed URL', async () => {
  const [, client] = await connect(({ url }, response) =>
    url.includes('signed')
      ? response.writeHead(500).end('X-Amz-Signature=abc')
      : response.writeHead(307, { location: '/signed?X-Amz-Signature=abc' }).end(),
  );
  const error: unknown = await fetchRange(client).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code: 'UPSTREAM_UNREACHABLE' });
  expect(JSON.stringify([String(error), error, (error as Error).stack])).not.toContain('abc');
});
