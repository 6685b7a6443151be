import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { DemoRegistry } from '../../../src/demo/demo-registry.ts';
import { sendRaw } from '../../helpers/raw-request.ts';
import { RunningApp } from '../../helpers/running-app.ts';

let upstream: DemoRegistry;
let app: RunningApp;

beforeAll(async () => {
  upstream = await DemoRegistry.start();
  upstream.addManifest(
    'app',
    '1.0',
    Buffer.from('{"schemaVersion":2}'),
    'application/vnd.oci.image.manifest.v1+json',
  );
  app = await RunningApp.start({
    upstreams: [{ name: 'demo', url: upstream.url, default: true }],
    environment: { SPANDREL_LIMITS_HEADERS_TIMEOUT_MS: '2000' },
  });
});

afterAll(async () => {
  await app[Symbol.asyncDispose]();
  await upstream[Symbol.asyncDispose]();
});

const HEAD = 'GET /v2/ HTTP/1.1\r\nHost: x\r\n';
/** What a smuggled request would be answered with, were it taken for one. */
const SMUGGLED = 'GET /v2/app/manifests/smuggled HTTP/1.1\r\nHost: x\r\n\r\n';

describe('framing that two readers could understand in two ways is refused', () => {
  it.each([
    [
      'Content-Length and Transfer-Encoding',
      `${HEAD}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n${SMUGGLED}`,
    ],
    [
      'two lengths that differ',
      `${HEAD}Content-Length: 0\r\nContent-Length: ${SMUGGLED.length}\r\n\r\n${SMUGGLED}`,
    ],
    ['the same length twice', `${HEAD}Content-Length: 0\r\nContent-Length: 0\r\n\r\n${SMUGGLED}`],
    ['a list of lengths', `${HEAD}Content-Length: 0, 5\r\n\r\n${SMUGGLED}`],
    ['a negative length', `${HEAD}Content-Length: -1\r\n\r\n${SMUGGLED}`],
    ['a length with a sign', `${HEAD}Content-Length: +0\r\n\r\n${SMUGGLED}`],
    ['an unknown transfer coding', `${HEAD}Transfer-Encoding: xchunked\r\n\r\n${SMUGGLED}`],
    ['chunked not last', `${HEAD}Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n${SMUGGLED}`],
    ['a chunk size that is no number', `${HEAD}Transfer-Encoding: chunked\r\n\r\nzz\r\n${SMUGGLED}`],
    ['a bare LF after a header', `GET /v2/ HTTP/1.1\r\nHost: x\nX: y\r\n\r\n${SMUGGLED}`],
    ['a bare LF after the request line', `GET /v2/ HTTP/1.1\nHost: x\r\n\r\n${SMUGGLED}`],
    ['a bare CR in a header', `${HEAD}X: a\rY: b\r\n\r\n${SMUGGLED}`],
    ['a folded header', `${HEAD}X: a\r\n folded\r\n\r\n${SMUGGLED}`],
    ['a space before the colon', `${HEAD}Content-Length : 5\r\n\r\n${SMUGGLED}`],
    ['a space before the first header', `GET /v2/ HTTP/1.1\r\n Host: x\r\n\r\n${SMUGGLED}`],
    ['NUL in a header', `${HEAD}X: a\0b\r\n\r\n${SMUGGLED}`],
    ['NUL in the path', `GET /v2/\0 HTTP/1.1\r\nHost: x\r\n\r\n${SMUGGLED}`],
    ['a space in the path', `GET /v2/ x HTTP/1.1\r\nHost: x\r\n\r\n${SMUGGLED}`],
    ['another protocol', `SSH-2.0-OpenSSH_9.2\r\n\r\n${SMUGGLED}`],
    ['HTTP/2 without TLS', 'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n'],
    ['a version that there is not', `GET /v2/ HTTP/9.9\r\nHost: x\r\n\r\n${SMUGGLED}`],
  ])('%s', async (_name, bytes) => {
    upstream.requests.clear();
    const answer = await sendRaw(app.url, bytes);
    const [head = '', body = ''] = answer.split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n/);
    expect(head).toMatch(/connection: close/i);
    expect(JSON.parse(body)).toMatchObject({ errors: [{ code: 'REQUEST_INVALID' }] });
    expect(upstream.requests.requestCount).toBe(0);
  });

  it.each([
    ['no Host', 'GET /v2/ HTTP/1.1\r\n\r\n'],
    ['two Hosts', `${HEAD}Host: y\r\n\r\n`],
  ])('%s: nobody can say who is meant', async (_name, bytes) => {
    const [head = '', body = ''] = (await sendRaw(app.url, bytes)).split('\r\n\r\n');
    expect(head).toMatch(/^HTTP\/1\.1 400 Bad Request\r\n.*connection: close/is);
    expect(JSON.parse(body)).toMatchObject({ errors: [{ code: 'REQUEST_INVALID' }] });
  });

  it('a chunk that does not end where it should ends the connection', async () => {
    const chunks = '1\r\naX0\r\n\r\n';
    const answer = await sendRaw(app.url, `${HEAD}Transfer-Encoding: chunked\r\n\r\n${chunks}${SMUGGLED}`);
    expect(answer.match(/HTTP\/1\.1/g) ?? []).toHaveLength(1);
  });

  it('takes the next request after a body that nobody wants for what it is', async () => {
    upstream.requests.clear();
    const body = SMUGGLED;
    const answer = await sendRaw(
      app.url,
      `${HEAD}Content-Length: ${body.length}\r\n\r\n${body}GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`,
    );
    expect(answer.match(/HTTP\/1\.1 200/g)).toHaveLength(2);
    expect(upstream.requests.requestCount).toBe(0);
  });
});

describe('sizes', () => {
  it.each([
    ['a long path', `GET /v2/${'a'.repeat(40_000)} HTTP/1.1\r\nHost: x\r\n\r\n`],
    ['a long header', `${HEAD}X: ${'a'.repeat(40_000)}\r\n\r\n`],
    ['many headers', `${HEAD}${'X: a\r\n'.repeat(10_000)}\r\n`],
  ])('%s beyond limits.maxHeaderBytes is refused', async (_name, bytes) => {
    expect(await sendRaw(app.url, bytes)).toMatch(/^HTTP\/1\.1 431 .*"REQUEST_INVALID"/s);
  });

  it('what is just below is taken', async () => {
    const answer = await sendRaw(app.url, `${HEAD}Connection: close\r\nX: ${'a'.repeat(32_000)}\r\n\r\n`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
  });
});

describe('slow clients', () => {
  it('a head that does not end is cut off after limits.headersTimeoutMs', async () => {
    expect(await sendRaw(app.url, `${HEAD}X: `)).toMatch(/^HTTP\/1\.1 408 /);
  });

  it('so is a connection on which nothing comes', async () => {
    expect(await sendRaw(app.url, '')).toMatch(/^(HTTP\/1\.1 408 |$)/);
  });

  it('and a body that does not come; the answer was there before', async () => {
    const answer = await sendRaw(app.url, `${HEAD}Content-Length: 10\r\n\r\nabc`);
    expect(answer).toMatch(/^HTTP\/1\.1 200 /);
    expect(answer.match(/HTTP\/1\.1/g)).toHaveLength(1);
  });
});

describe('paths', () => {
  const digest = `sha256:${'0'.repeat(64)}`;

  async function statusOf(path: string): Promise<number> {
    const answer = await sendRaw(app.url, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
  }

  it.each([
    '/v2/app/../other/manifests/1.0',
    '/v2/../v2/app/manifests/1.0',
    '/v2/./app/manifests/1.0',
    '/v2/app/./manifests/1.0',
    '/v2/app/%2e%2e/other/manifests/1.0',
    '/v2/app/%2e%2e%2fother/manifests/1.0',
    '/v2/app/..%2fmanifests/1.0',
    '/v2//app/manifests/1.0',
    '//v2/app/manifests/1.0',
    '/v2/app//manifests/1.0',
    '/v2/app%00/manifests/1.0',
    '/v2/app/manifests/1.0%00',
    '/v2/app/manifests/..%2f..%2fblobs%2fx',
    '/v2/app/manifests/../blobs/x',
    '/v2/%c0%ae%c0%ae/manifests/1.0',
    '/v2/app%c0%af/manifests/1.0',
    '/v2/app%ff/manifests/1.0',
    '/v2/app\\..\\other/manifests/1.0',
    '/v2/app;x=1/manifests/1.0',
    '/v2/app%0d%0aX:%20y/manifests/1.0',
    '/v2/app/manifests/1.0%0d%0aX:%20y',
    '/v2/app/manifests/1.0%20',
    '/v2/APP/manifests/1.0',
    `/v2/app/blobs/${digest}/../x`,
    `/v2/app/blobs/${digest}%2f..`,
    `/v2/app/blobs/${digest}%00`,
    `/v2/app/_soci/layers/${digest}%2f../files/x`,
    '/V2/app/manifests/1.0',
    'http://elsewhere.test/v2/app/manifests/1.0',
    '*',
  ])('%s is refused before anybody is asked', async (path) => {
    upstream.requests.clear();
    expect([400, 404]).toContain(await statusOf(path));
    expect(upstream.requests.requestCount).toBe(0);
  });

  it.each(['/v2/%61pp/manifests/1.0', '/v2/demo%2Fapp/manifests/1.0', '/v2/app/manifests/1%2e0'])(
    '%s means what it says',
    async (path) => {
      expect(await statusOf(path)).toBe(200);
    },
  );
});
