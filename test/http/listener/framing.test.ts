import { beforeAll, describe, expect, it } from 'vitest';

import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import {
  AMBIGUOUS_REQUESTS,
  HEAD,
  HOSTILE_PATHS,
  OVERSIZED_REQUESTS,
  SMUGGLED,
} from '../../helpers/clients/hostile-requests.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import { sendRaw } from '../../helpers/clients/raw-request.ts';
import type { RunningApp } from '../../helpers/running-app.ts';

let upstream: ScriptedRegistry;
let app: RunningApp;

beforeAll(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  upstream.addManifest(
    'app',
    '1.0',
    Buffer.from('{"schemaVersion":2}'),
    'application/vnd.oci.image.manifest.v1+json',
  );
  app = await proxyWith(upstream, {
    upstream: { name: 'demo' },
    environment: { SPANDREL_LIMITS_HEADERS_TIMEOUT_MS: '2000' },
  });
});

describe('framing that two readers could understand in two ways is refused', () => {
  it.each(AMBIGUOUS_REQUESTS)('%s', async (_name, bytes) => {
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
    ['the same Host twice', `${HEAD}Host: x\r\n\r\n`],
    ['a Host with a space', 'GET /v2/ HTTP/1.1\r\nHost: a b\r\n\r\n'],
    ['a Host with a user', 'GET /v2/ HTTP/1.1\r\nHost: a@b\r\n\r\n'],
    ['a Host with a path', 'GET /v2/ HTTP/1.1\r\nHost: a/b\r\n\r\n'],
    ['a Host whose port is none', 'GET /v2/ HTTP/1.1\r\nHost: a:b\r\n\r\n'],
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

  it.each(['', 'a', 'A.b-c_d.test:5000', '127.0.0.1:', '[::1]', '[fe80::1]:443'])(
    'Host: %s is one',
    async (host) => {
      const request = `GET /v2/ HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
      expect(await sendRaw(app.url, request)).toMatch(/^HTTP\/1\.1 200 /);
    },
  );

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
  it.each(OVERSIZED_REQUESTS)('%s beyond limits.maxHeaderBytes is refused', async (_name, bytes) => {
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
  async function statusOf(path: string): Promise<number> {
    const answer = await sendRaw(app.url, `GET ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    return Number(/^HTTP\/1\.1 (\d+)/.exec(answer)?.[1]);
  }

  it.each(HOSTILE_PATHS)('%s is refused before anybody is asked', async (path) => {
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
