import { describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { MEDIA_TYPES } from '../../src/core/media-types.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { basic, PrivateRegistry } from '../helpers/upstreams/private-registry.ts';
import { type Script, ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { makeSecret } from '../helpers/secrets.ts';

const MANIFEST = Buffer.from('{"schemaVersion":2}');

async function start(
  script: Script,
  options: { upstream?: object; environment?: Record<string, string> } = {},
): Promise<{ app: RunningApp; upstream: ScriptedUpstream }> {
  const upstream = cleanup.use(await ScriptedUpstream.start(script));
  const environment = { SPANDREL_UPSTREAM_RETRIES: '0', ...options.environment };
  const app = await proxyWith(upstream, { upstream: { name: 'hub', ...options.upstream }, environment });
  return { app, upstream };
}

interface ErrorBody {
  readonly errors: readonly {
    readonly code: string;
    readonly message: string;
    readonly detail: Record<string, unknown>;
  }[];
}

async function firstError(response: Response): Promise<ErrorBody['errors'][0]> {
  const [error] = ((await response.json()) as ErrorBody).errors;
  if (error === undefined) throw new Error('no error');
  return error;
}

const TAG = '/v2/team/app/manifests/1';

describe("an upstream's own words", () => {
  it.each([
    [404, '{"errors":[{"code":"MANIFEST_UNKNOWN","message":"no such tag"}]}', 404, 'no such tag'],
    [403, '{"errors":[{"code":"DENIED","message":"ecr:BatchGetImage is not allowed"}]}', 403, 'not allowed'],
    [500, '{"message":"the database is read-only"}', 502, 'the database is read-only'],
    [429, '{"errors":[{"code":"TOOMANYREQUESTS","message":"pull rate limit"}]}', 503, 'pull rate limit'],
    [418, '{"errors":[{"code":"TEAPOT","message":"short and stout"}]}', 502, 'short and stout'],
  ])('with status %i get to the client', async (status, body, expected, words) => {
    const { app } = await start((_request, response) => response.writeHead(status).end(body));
    const response = await fetch(app.url + TAG);
    const { message, detail } = await firstError(response);
    expect(response.status).toBe(expected);
    expect(message).toMatch(
      new RegExp(`^upstream hub answered ${status} .*${words}|^upstream hub answered ${status}: "${words}"$`),
    );
    expect(detail).toMatchObject({
      upstream: 'hub',
      status,
      upstreamMessage: expect.stringContaining(words) as string,
    });
  });

  it.each([
    ['control characters', 'a\u001b[31mred\u0000\n\u202eb', 'a\\u{1b}[31mred\\u{0}\\u{a}\\u{202e}b'],
    ['lone surrogates', 'a\ud800b', 'a\\u{d800}b'],
    [
      'signatures of URLs',
      'see https://s3.example/x?X-Amz-Signature=abc now',
      'see https://s3.example/x?… now',
    ],
    ['credentials', 'bad header "Bearer abcdefghijkl"', 'bad header "Bearer …"'],
    ['more than a line', 'x'.repeat(5000), `${'x'.repeat(300)}…`],
  ])('never bring %s', async (_name, message, expected) => {
    const { app } = await start((_request, response) =>
      response.writeHead(404).end(JSON.stringify({ errors: [{ code: 'MANIFEST_UNKNOWN', message }] })),
    );
    const { detail } = await firstError(await fetch(app.url + TAG));
    expect(detail['upstreamMessage']).toBe(expected);
  });

  it.each(['', '<html>blocked</html>', '[1]', '{"errors":{}}', '{"errors":[{"message":7}]}'])(
    'are missing where there are none: %s',
    async (body) => {
      const { app } = await start((_request, response) => response.writeHead(404).end(body));
      const { message, detail } = await firstError(await fetch(app.url + TAG));
      expect([message, detail]).toEqual(['upstream hub answered 404', { upstream: 'hub', status: 404 }]);
    },
  );
});

describe('Retry-After', () => {
  it.each([
    [429, 503],
    [503, 502],
  ])(
    'of an upstream that answers %i gets to the client, who costs no further request',
    async (status, told) => {
      const { app, upstream } = await start((_request, response) =>
        response.writeHead(status, { 'retry-after': '600' }).end(),
      );
      const first = await fetch(app.url + TAG);
      expect([first.status, first.headers.get('retry-after')]).toEqual([told, '600']);
      for (const method of ['GET', 'HEAD']) {
        const next = await fetch(app.url + TAG, { method });
        expect(next.status).toBe(503);
        expect(Number(next.headers.get('retry-after'))).toBeGreaterThan(590);
      }
      expect(upstream.requests).toHaveLength(1);
    },
  );
});

const LIMITS = {
  'ratelimit-limit': '100;w=21600',
  'ratelimit-remaining': '76;w=21600',
  'docker-ratelimit-source': '192.0.2.7',
  'x-ratelimit-reset': '1700000000',
};

describe('the limits that an upstream tells', () => {
  const others = { 'x-internal': '1', 'set-cookie': 'a=b', 'ratelimit-evil': 'x'.repeat(300) };

  it('get to the client with manifests, GET and HEAD, fetched and known', async () => {
    const { app } = await start(({ method }, response) => {
      response.writeHead(200, {
        'content-type': MEDIA_TYPES.ociManifest,
        'docker-content-digest': digestOf(MANIFEST),
        ...LIMITS,
        ...others,
      });
      response.end(method === 'HEAD' ? undefined : MANIFEST);
    });
    for (const method of ['GET', 'HEAD', 'GET']) {
      const response = await fetch(app.url + TAG, { method });
      expect(response.status).toBe(200);
      expect(Object.fromEntries(response.headers)).toMatchObject(LIMITS);
      for (const name of Object.keys(others)) expect(response.headers.has(name)).toBe(false);
    }
  });

  it('get to the client with a 429', async () => {
    const { app } = await start((_request, response) => response.writeHead(429, LIMITS).end());
    const response = await fetch(app.url + TAG);
    expect(response.status).toBe(503);
    expect(Object.fromEntries(response.headers)).toMatchObject(LIMITS);
  });

  it('are not those of an answer that the upstream was not asked for', async () => {
    const { app } = await start(
      (_request, response) => {
        response.writeHead(200, { 'content-type': MEDIA_TYPES.ociManifest, ...LIMITS }).end(MANIFEST);
      },
      { environment: { SPANDREL_MANIFESTS_TAG_SECONDS: '3600' } },
    );
    expect((await fetch(app.url + TAG)).headers.get('ratelimit-limit')).toBe('100;w=21600');
    expect((await fetch(app.url + TAG)).headers.has('ratelimit-limit')).toBe(false);
  });
});

describe("the proxy's own credentials", () => {
  const password = makeSecret('wrong password of the proxy');
  const auth = { kind: 'basic', username: 'me', password };
  const words = '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}';

  it.each([
    ['refused', auth, /^upstream hub answered 401 UNAUTHORIZED: "authentication required"$/],
    [
      'missing',
      { kind: 'anonymous' },
      /authentication required"; the proxy has no credentials for this upstream/,
    ],
  ])('are no matter of the client when they are %s by the registry', async (_name, given, expected) => {
    const { app } = await start(
      (_request, response) => response.writeHead(401, { 'www-authenticate': 'Basic realm="x"' }).end(words),
      { upstream: { auth: given } },
    );
    const response = await fetch(app.url + TAG);
    expect([response.status, response.headers.has('www-authenticate')]).toEqual([502, false]);
    const { code, message } = await firstError(response);
    expect(code).toBe('UPSTREAM_CREDENTIALS_REFUSED');
    expect(message).toMatch(expected);
  });

  it('are no matter of the client when a token service refuses them', async () => {
    const { app } = await start(
      ({ url, headers }, response) => {
        if (url.startsWith('/token'))
          return void response.writeHead(401).end('{"details":"incorrect username or password"}');
        const realm = `http://${headers.host ?? ''}/token`;
        response.writeHead(401, { 'www-authenticate': `Bearer realm="${realm}"` }).end();
      },
      { upstream: { auth } },
    );
    const response = await fetch(app.url + TAG);
    expect(response.status).toBe(502);
    expect(await firstError(response)).toMatchObject({
      code: 'UPSTREAM_CREDENTIALS_REFUSED',
      message: 'upstream hub: its token service answered 401: "incorrect username or password"',
    });
  });

  it("are told apart from the client's own, which stay 401 and 403", async () => {
    const registry = cleanup.use(await PrivateRegistry.start('basic'));
    const app = await proxyWith(registry, {
      upstream: { name: 'hub', auth },
      environment: { SPANDREL_ACCESS_KIND: 'upstream', SPANDREL_UPSTREAM_RETRIES: '0' },
    });
    const ask = async (authorization?: string): Promise<number> =>
      (
        await fetch(`${app.url}/v2/alice/manifests/1.0`, {
          headers: authorization === undefined ? {} : { authorization },
        })
      ).status;
    expect(await ask()).toBe(401);
    expect(await ask(basic('alice', 'not-the-password'))).toBe(401);
    expect(await ask(basic('bob', 'pw-bob'))).toBe(403);
    expect(await ask(basic('alice', 'pw-alice'))).toBe(502);
  });
});
