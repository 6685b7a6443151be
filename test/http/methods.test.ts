import { once } from 'node:events';
import type { ClientHttp2Session } from 'node:http2';
import { text } from 'node:stream/consumers';

import { beforeAll, describe, expect, it } from 'vitest';

import { REQUEST_HEADER } from '../../src/http/access/page-guard.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { askHttp2, openHttp2 } from '../helpers/clients/http2-client.ts';
import { KnownRepository } from '../helpers/images/known-repository.ts';
import { createCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import { sendRaw } from '../helpers/clients/raw-request.ts';
import { ROUTE_SAMPLES } from '../helpers/clients/route-samples.ts';

const READ_ONLY = 'GET, HEAD, OPTIONS';

let known: KnownRepository;
let registry: ClientHttp2Session;
let admin: ClientHttp2Session;

beforeAll(async () => {
  known = cleanup.use(await KnownRepository.start());
  const { ca, server } = cleanup.use(await createCertificates());
  const secure = await proxyWith(known.upstream, {
    upstream: { name: 'known' },
    environment: {
      SPANDREL_LISTEN_TLS_CERT: server.cert,
      SPANDREL_LISTEN_TLS_KEY: server.key,
      SPANDREL_ADMIN_TLS_CERT: server.cert,
      SPANDREL_ADMIN_TLS_KEY: server.key,
    },
  });
  cleanup.use(secure);
  registry = await openHttp2(secure.url, ca);
  admin = await openHttp2(secure.adminUrl, ca);
});

interface RegistryResponse {
  readonly status: number;
  readonly allow: string | undefined;
  readonly code: string | undefined;
}

/** The last answer to these bytes, which ask to close the connection. */
async function ask(url: string, line: string, headers = ''): Promise<RegistryResponse> {
  const answers = await sendRaw(url, `${line}\r\nHost: localhost\r\nConnection: close\r\n${headers}\r\n`);
  const last = answers.slice(answers.lastIndexOf('HTTP/1.1 '));
  const [head = '', body = ''] = last.split('\r\n\r\n');
  return {
    status: Number(head.slice(9, 12)),
    allow: /^allow: (.*)$/im.exec(head)?.[1],
    code: codeOf(body),
  };
}

async function askSecure(
  session: ClientHttp2Session,
  method: string,
  path: string,
): Promise<RegistryResponse> {
  const { status, headers, body } = await askHttp2(session, path, { ':method': method });
  const { allow } = headers;
  return { status, allow: typeof allow === 'string' ? allow : undefined, code: codeOf(body.toString()) };
}

function codeOf(body: string): string | undefined {
  return body === '' ? undefined : (JSON.parse(body) as { errors?: { code: string }[] }).errors?.[0]?.code;
}

describe('OPTIONS', () => {
  it('of every route of the registry says what it takes, and asks no upstream', async () => {
    known.upstream.requests.clear();
    const below = Object.values(ROUTE_SAMPLES).map((sample) => `/v2/team/app/${sample}`);
    for (const path of ['/', '/v2/', '/v2/_catalog', ...below]) {
      const expected = { status: 204, allow: READ_ONLY, code: undefined };
      expect(await ask(known.app.url, `OPTIONS ${path} HTTP/1.1`), path).toEqual(expected);
      expect(await askSecure(registry, 'OPTIONS', path), path).toEqual(expected);
    }
    expect(known.upstream.requests.requestCount).toBe(0);
  });

  it.each([
    ['/', 'GET, HEAD, OPTIONS'],
    ['/healthz?x', 'GET, HEAD, OPTIONS'],
    ['/api/v1/blobs', 'GET, HEAD, OPTIONS'],
    ['/api/v1/blobs/sha256:x', 'DELETE, OPTIONS'],
    ['/api/v1/warm', 'POST, OPTIONS'],
  ])('of %s of the operations listener says %s', async (path, allow) => {
    const expected = { status: 204, allow, code: undefined };
    expect(await ask(known.app.adminUrl, `OPTIONS ${path} HTTP/1.1`)).toEqual(expected);
    expect(await askSecure(admin, 'OPTIONS', path)).toEqual(expected);
  });

  it('* is for the server as a whole', async () => {
    expect(await ask(known.app.url, 'OPTIONS * HTTP/1.1')).toMatchObject({ status: 204, allow: READ_ONLY });
    expect(await ask(known.app.adminUrl, 'OPTIONS * HTTP/1.1')).toMatchObject({
      status: 204,
      allow: 'GET, HEAD, DELETE, PUT, POST, OPTIONS',
    });
  });

  it('of what is no route is answered as GET of it', async () => {
    for (const url of [known.app.url, known.app.adminUrl])
      expect(await ask(url, 'OPTIONS /v3/ HTTP/1.1')).toMatchObject({ status: 404, code: 'ROUTE_UNKNOWN' });
  });
});

describe('any other method', () => {
  const refused = { status: 405, code: 'UNSUPPORTED' };

  it.each(['TRACE', 'PROPFIND', 'PURGE', 'LOCK', 'M-SEARCH', 'PUT', 'DELETE'])(
    '%s is refused with an OCI error and Allow',
    async (method) => {
      const expected = { ...refused, allow: READ_ONLY };
      expect(await ask(known.app.url, `${method} /v2/team/app/manifests/1.0 HTTP/1.1`)).toEqual(expected);
      expect(await askSecure(registry, method, '/v2/')).toEqual(expected);
      expect(await ask(known.app.adminUrl, `${method} /healthz HTTP/1.1`)).toEqual(expected);
      expect(await askSecure(admin, method, '/healthz')).toEqual(expected);
    },
  );

  it('that no standard has is refused too', async () => {
    expect(await ask(known.app.url, 'FETCH /v2/ HTTP/1.1')).toMatchObject({
      status: 400,
      code: 'REQUEST_INVALID',
    });
    for (const session of [registry, admin])
      expect(await askSecure(session, 'FETCH', '/v2/')).toEqual({ ...refused, allow: READ_ONLY });
  });

  it('CONNECT opens no tunnel', async () => {
    for (const url of [known.app.url, known.app.adminUrl])
      expect(await ask(url, 'CONNECT registry.example.com:443 HTTP/1.1')).toEqual({
        ...refused,
        allow: READ_ONLY,
      });
    for (const session of [registry, admin]) {
      const stream = session.request({ ':method': 'CONNECT', ':authority': 'registry.example.com:443' });
      const [headers] = (await once(stream, 'response')) as [Record<string, unknown>];
      expect([headers[':status'], headers['allow']]).toEqual([405, READ_ONLY]);
      expect(codeOf(await text(stream))).toBe('UNSUPPORTED');
    }
  });
});

describe('Expect', () => {
  it.each(['200-ok', '100-continue, other', 'x=y; z', ''])('%j is answered with 417', async (value) => {
    for (const [url, path] of [
      [known.app.url, '/v2/'],
      [known.app.adminUrl, '/healthz'],
    ] as const)
      expect(await ask(url, `GET ${path} HTTP/1.1`, `Expect: ${value}\r\n`)).toMatchObject({
        status: 417,
        code: 'EXPECTATION_FAILED',
      });
    for (const session of [registry, admin]) {
      const path = session === admin ? '/healthz' : '/v2/';
      expect((await askHttp2(session, path, { expect: value })).status).toBe(417);
    }
  });

  it('of HTTP/1.0 means nothing', async () => {
    expect(await sendRaw(known.app.url, 'GET /v2/ HTTP/1.0\r\nExpect: 200-ok\r\n\r\n')).toMatch(
      /^HTTP\/1\.1 200 /,
    );
  });

  it('100-continue of a push gets the refusal, without leave to send the body', async () => {
    const push =
      'PUT /v2/team/app/manifests/2.0 HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\nExpect: 100-continue\r\n\r\n';
    // The connection ends: nobody can know whether what comes next is the body.
    expect(await sendRaw(known.app.url, push)).toMatch(
      /^HTTP\/1\.1 405 [^]*connection: close\r\n[^]*UNSUPPORTED/i,
    );
  });

  it('100-continue of a read is answered as without', async () => {
    for (const [url, path] of [
      [known.app.url, '/v2/'],
      [known.app.adminUrl, '/healthz'],
    ] as const)
      expect((await ask(url, `GET ${path} HTTP/1.1`, 'Expect: 100-Continue\r\n')).status).toBe(200);
    expect((await askHttp2(registry, '/v2/', { expect: '100-continue' })).status).toBe(200);
  });

  it('100-continue of a body that is wanted gets leave to send it', async () => {
    const body = '{"image":"nothing"}';
    const answers = await sendRaw(
      known.app.adminUrl,
      `POST /api/v1/warm HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/json\r\n` +
        `Content-Length: ${body.length}\r\nExpect: 100-continue\r\n\r\n${body}`,
    );
    expect(answers).toMatch(/^HTTP\/1\.1 100 Continue\r\n\r\nHTTP\/1\.1 [24]/);
  });
});

describe('a body that cannot be read', () => {
  it.each([
    ['no JSON', 'application/json', '{'],
    ['an unknown type', 'text/csv', 'a,b'],
    ['nothing', 'application/json', ''],
  ])('%s is the fault of who sent it', async (_what, contentType, body) => {
    const url = `${known.app.adminUrl}/api/v1/warm`;
    const response = await fetch(url, {
      method: 'POST',
      body,
      headers: { 'content-type': contentType, [REQUEST_HEADER]: 'test' },
    });
    expect([response.status, codeOf(await response.text())]).toEqual([400, 'QUERY_INVALID']);
  });
});
