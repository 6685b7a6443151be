import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';

import { beforeAll, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { Certificate } from '../helpers/upstreams/certificate.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { ForwardProxy, type ForwardProxyOptions } from '../helpers/upstreams/forward-proxy.ts';
import { type OpenClient, openClient } from '../helpers/clients/registry-clients.ts';
import { type Script, ScriptedUpstream, type SeenRequest } from '../helpers/upstreams/scripted-upstream.ts';
import { makeSecret } from '../helpers/secrets.ts';

const BLOB = Buffer.from('0123456789');
const TAGS = '{"tags":["1"]}';

let certificate: Certificate;

beforeAll(async () => {
  certificate = cleanup.use(await Certificate.create('registry.example', 'other.example'));
});

async function pem(): Promise<{ cert: Buffer; key: Buffer }> {
  return { cert: await readFile(certificate.cert), key: await readFile(certificate.key) };
}

/** A registry with TLS that lists tags; returns its port and what it has seen. */
async function startTlsRegistry(): Promise<{ port: number; seen: SeenRequest[] }> {
  const seen: SeenRequest[] = [];
  const server = createServer(await pem(), ({ method = '', url = '', headers }, response) => {
    seen.push({ method, url, headers, body: '' });
    response.end(TAGS);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  cleanup.defer(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen };
}

async function startProxy(options: ForwardProxyOptions): Promise<ForwardProxy> {
  return cleanup.use(await ForwardProxy.start(options));
}

async function startRegistry(script: Script): Promise<{ registry: ScriptedUpstream; port: number }> {
  const registry = cleanup.use(await ScriptedUpstream.start(script));
  return { registry, port: Number(new URL(registry.url).port) };
}

interface Way {
  readonly proxy?: string;
  readonly variables?: Record<string, string>;
  readonly upstream?: object;
}

async function connect(url: string, { proxy, variables, upstream }: Way): Promise<OpenClient['client']> {
  const opened = await openClient(
    { name: 'test', url, ca: certificate.cert, ...upstream, ...(proxy === undefined ? {} : { proxy }) },
    {
      processEnvironment: variables ?? {},
      environment: { SPANDREL_UPSTREAM_RETRIES: '0', SPANDREL_UPSTREAM_CONNECT_TIMEOUT_MS: '2000' },
    },
  );
  return cleanup.use(opened).client;
}

describe('an upstream with http', () => {
  it.each([
    ['proxy', (url: string) => ({ proxy: url })],
    ['HTTP_PROXY', (url: string) => ({ variables: { HTTP_PROXY: url } })],
    ['http_proxy', (url: string) => ({ variables: { http_proxy: url, HTTP_PROXY: 'http://127.0.0.1:1' } })],
    ['HTTP_PROXY without a scheme', (url: string) => ({ variables: { HTTP_PROXY: url.slice(7) } })],
  ])('is reached through %s, with absolute targets', async (_name, way) => {
    const { registry, port } = await startRegistry((_request, response) => response.end(TAGS));
    const proxy = await startProxy({ routes: { 'registry.example:80': port } });
    const client = await connect('http://registry.example', way(proxy.url));
    expect((await client.listTags('app', { limit: 7 })).tags).toEqual(['1']);
    expect(proxy.seen).toEqual(['GET http://registry.example/v2/app/tags/list?n=7']);
    expect(registry.requests.map(({ headers }) => headers.host)).toEqual(['registry.example']);
  });

  it('is not reached through HTTPS_PROXY', async () => {
    const { port } = await startRegistry((_request, response) => response.end(TAGS));
    const proxy = await startProxy({ routes: {} });
    const client = await connect(`http://127.0.0.1:${port}`, { variables: { HTTPS_PROXY: proxy.url } });
    await client.ping();
    expect(proxy.seen).toEqual([]);
  });
});

describe('an upstream with https', () => {
  it.each([
    ['proxy', (url: string) => ({ proxy: url })],
    ['HTTPS_PROXY', (url: string) => ({ variables: { HTTPS_PROXY: url } })],
    [
      'https_proxy',
      (url: string) => ({ variables: { https_proxy: url, HTTPS_PROXY: 'http://127.0.0.1:1' } }),
    ],
  ])('is reached through %s, in a tunnel', async (_name, way) => {
    const { port, seen } = await startTlsRegistry();
    const proxy = await startProxy({ routes: { 'registry.example:443': port } });
    const client = await connect('https://registry.example', way(proxy.url));
    for (let request = 0; request < 8; request++) expect((await client.listTags('app')).tags).toEqual(['1']);
    expect(new Set(proxy.seen)).toEqual(new Set(['CONNECT registry.example:443']));
    // Tunnels are kept like other connections.
    expect(proxy.seen.length).toBeLessThan(4);
    expect(seen.map(({ url }) => url)).toEqual(Array(8).fill('/v2/app/tags/list'));
  });

  it('is not reached through HTTP_PROXY', async () => {
    const { port } = await startTlsRegistry();
    const proxy = await startProxy({ routes: {} });
    const client = await connect(`https://127.0.0.1:${port}`, { variables: { HTTP_PROXY: proxy.url } });
    await client.ping();
    expect(proxy.seen).toEqual([]);
  });

  it('is reached through a proxy that speaks TLS itself', async () => {
    const { port } = await startTlsRegistry();
    const proxy = await startProxy({ routes: { 'registry.example:8443': port }, tls: await pem() });
    const client = await connect('https://registry.example:8443', { proxy: proxy.url });
    await client.ping();
    expect(proxy.seen).toEqual(['CONNECT registry.example:8443']);
  });

  it('has its certificate verified for its own name', async () => {
    const { port } = await startTlsRegistry();
    const proxy = await startProxy({ routes: { 'wrong.example:443': port } });
    const client = await connect('https://wrong.example', { proxy: proxy.url });
    await expect(client.ping()).rejects.toMatchObject({
      code: 'UPSTREAM_UNREACHABLE',
      message: expect.stringContaining('ERR_TLS_CERT_ALTNAME_INVALID') as string,
    });
  });
});

describe('the credentials of a proxy', () => {
  const password = makeSecret('password of the outbound proxy', 'p@:');
  const pair = Buffer.from(`me:${password}`).toString('base64');
  const withCredentials = ({ port }: ForwardProxy): string =>
    `http://me:${encodeURIComponent(password)}@127.0.0.1:${port}`;

  it('go to the proxy, and those of the registry do not', async () => {
    const { port, seen } = await startTlsRegistry();
    const plain = await startRegistry((_request, response) => response.end(TAGS));
    const proxy = await startProxy({
      routes: { 'registry.example:443': port, 'registry.example:80': plain.port },
      authorization: `Basic ${pair}`,
    });
    for (const scheme of ['https', 'http']) {
      const client = await connect(`${scheme}://registry.example`, { proxy: withCredentials(proxy) });
      await client.ping();
    }
    expect(proxy.seen).toEqual(['CONNECT registry.example:443', 'GET http://registry.example/v2/']);
    for (const { headers } of [...seen, ...plain.registry.requests])
      expect(headers).not.toHaveProperty('proxy-authorization');
  });

  it('are not in any error', async () => {
    const proxy = await startProxy({ routes: {}, authorization: 'Basic other' });
    for (const scheme of ['https', 'http']) {
      const client = await connect(`${scheme}://registry.example`, { proxy: withCredentials(proxy) });
      const error: unknown = await client.ping().catch((thrown: unknown) => thrown);
      expect(error).toMatchObject({
        code: 'UPSTREAM_PROXY_REFUSED',
        message:
          'upstream test: its outbound proxy refuses the connection (it requires (other) credentials, 407)',
      });
      expect(JSON.stringify(error)).not.toContain(pair);
    }
  });
});

describe('a proxy that', () => {
  it.each([
    ['https', 403, 'UPSTREAM_PROXY_REFUSED', /refuses the connection \(403\)$/],
    ['https', 407, 'UPSTREAM_PROXY_REFUSED', /requires \(other\) credentials, 407/],
    ['http', 407, 'UPSTREAM_PROXY_REFUSED', /requires \(other\) credentials, 407/],
    ['https', 502, 'UPSTREAM_UNREACHABLE', /outbound proxy cannot reach it \(502\)$/],
    ['https', 503, 'UPSTREAM_UNREACHABLE', /outbound proxy cannot reach it \(503\)$/],
    ['http', 503, 'UPSTREAM_UNREACHABLE', /answered 503/],
  ])('answers for %s with %i is reported as %s', async (scheme, refusal, code, words) => {
    const proxy = await startProxy({ routes: {}, refusal });
    const client = await connect(`${scheme}://registry.example`, { proxy: proxy.url });
    await expect(client.ping()).rejects.toMatchObject({
      code,
      message: expect.stringMatching(words) as string,
    });
    expect(proxy.seen).toHaveLength(1);
  });

  it('never responds fails after the connect timeout', async () => {
    const proxy = await startProxy({ routes: {}, hangs: true });
    const client = await connect('https://registry.example', { proxy: proxy.url });
    await expect(client.ping()).rejects.toMatchObject({
      code: 'UPSTREAM_TIMEOUT',
      message: 'upstream test: its outbound proxy does not respond in time',
    });
  });

  it('never responds is abandoned at once when the request is aborted', async () => {
    const proxy = await startProxy({ routes: {}, hangs: true });
    await using opened = await openClient(
      { name: 'test', url: 'https://registry.example', proxy: proxy.url },
      { environment: { SPANDREL_UPSTREAM_CONNECT_TIMEOUT_MS: '600000' } },
    );
    const leaving = new AbortController();
    const asking = opened.client.listTags('app', {}, leaving.signal);
    await expect.poll(() => proxy.seen).toEqual(['CONNECT registry.example:443']);
    leaving.abort(new Error('enough'));
    await expect(asking).rejects.toThrow('enough');
  });

  it.each(['http', 'https'])(
    'is down has another error than an upstream that is down: %s',
    async (scheme) => {
      const client = await connect(`${scheme}://registry.example`, { proxy: 'http://127.0.0.1:1' });
      await expect(client.ping()).rejects.toMatchObject({
        code: 'UPSTREAM_UNREACHABLE',
        message: 'upstream test (through its outbound proxy): connection refused (ECONNREFUSED)',
      });
    },
  );
});

describe('with a proxy', () => {
  it('token services and redirects go the same way', async () => {
    const { registry, port } = await startRegistry(({ url, headers }, response) => {
      if (headers.host === 'auth.example') return void response.end('{"token":"t"}');
      if (headers.host === 'blobs.example') return void response.end(BLOB);
      if (headers.authorization !== 'Bearer t')
        return void response
          .writeHead(401, { 'www-authenticate': 'Bearer realm="http://auth.example/token",service="s"' })
          .end();
      if (url.includes('/blobs/'))
        return void response.writeHead(307, { location: 'http://blobs.example/b?sig=1' }).end();
      response.end(TAGS);
    });
    const hosts = ['registry.example', 'auth.example', 'blobs.example'];
    const proxy = await startProxy({
      routes: Object.fromEntries(hosts.map((host) => [`${host}:80`, port])),
    });
    const client = await connect('http://registry.example', { variables: { HTTP_PROXY: proxy.url } });
    const source = client.blobSource('app', digestOf(BLOB));
    const { body } = await source.fetch(undefined, new AbortController().signal);
    for await (const chunk of body) expect(chunk.equals(BLOB)).toBe(true);
    expect(proxy.seen.map((asked) => new URL(asked.split(' ')[1] ?? '').host)).toEqual([
      'registry.example',
      'auth.example',
      'registry.example',
      'blobs.example',
    ]);
    expect(registry.requests).toHaveLength(4);
  });

  it.each([
    'http://169.254.169.254/creds',
    'http://metadata.google.internal/x',
    'http://localhost:1/',
    'http://[::1]/',
  ])('a redirect to %s is refused before the proxy sees it', async (location) => {
    const { port } = await startRegistry((_request, response) => response.writeHead(307, { location }).end());
    const proxy = await startProxy({ routes: { 'registry.example:80': port } });
    const client = await connect('http://registry.example', { proxy: proxy.url });
    await expect(client.ping()).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
    expect(proxy.seen).toEqual(['GET http://registry.example/v2/']);
  });

  it.each(['https://169.254.169.254/creds', 'https://metadata.google.internal/x'])(
    'a redirect to %s gets no tunnel',
    async (location) => {
      const { port } = await startRegistry((_request, response) =>
        response.writeHead(307, { location }).end(),
      );
      const proxy = await startProxy({ routes: { 'registry.example:80': port } });
      const client = await connect('http://registry.example', { proxy: proxy.url });
      await expect(client.ping()).rejects.toMatchObject({ code: 'UPSTREAM_PROTOCOL' });
      expect(proxy.seen).toEqual(['GET http://registry.example/v2/']);
    },
  );

  it.each([
    ['this machine', {}, 'http://127.0.0.1'],
    ['localhost', {}, 'http://localhost'],
    ['what NO_PROXY lists', { NO_PROXY: 'sub.localhost,127.0.0.0/8' }, 'http://127.0.0.1'],
    ['what no_proxy lists', { no_proxy: '*', NO_PROXY: 'x' }, 'http://127.0.0.1'],
  ])('%s is reached directly if the proxy is of the environment', async (_name, variables, origin) => {
    const { port } = await startRegistry((_request, response) => response.end(TAGS));
    const proxy = await startProxy({ routes: {} });
    const client = await connect(`${origin}:${port}`, { variables: { HTTP_PROXY: proxy.url, ...variables } });
    await client.ping();
    expect(proxy.seen).toEqual([]);
  });

  it('of the upstream itself, everything goes through it, whatever the environment says', async () => {
    const { port } = await startRegistry((_request, response) => response.end(TAGS));
    const proxy = await startProxy({ routes: { [`127.0.0.1:${port}`]: port } });
    const variables = { HTTP_PROXY: 'http://127.0.0.1:1', NO_PROXY: '*' };
    const client = await connect(`http://127.0.0.1:${port}`, { proxy: proxy.url, variables });
    await client.ping();
    expect(proxy.seen).toEqual([`GET http://127.0.0.1:${port}/v2/`]);
  });

  it.each(['socks5://127.0.0.1:1080', 'http://proxy/path', 'http://', 'ftp://proxy:21'])(
    'of another kind the start fails without showing it: %s',
    async (text) => {
      for (const way of [{ proxy: text }, { variables: { HTTPS_PROXY: text } }]) {
        const failure: unknown = await connect('https://registry.example', way).catch(
          (error: unknown) => error,
        );
        expect(failure).toMatchObject({ code: 'CONFIG_INVALID' });
        expect(String(failure)).toContain('http(s)://[user:password@]host[:port]');
        expect(String(failure)).not.toContain(text);
      }
    },
  );
});
