import { beforeAll, describe, expect, it } from 'vitest';

import { PageGuard, REQUEST_HEADER } from '../../../src/http/access/page-guard.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { askHttp2, openHttp2 } from '../../helpers/clients/http2-client.ts';
import { KnownRepository } from '../../helpers/images/known-repository.ts';
import { createCertificates } from '../../helpers/upstreams/listener-certificates.ts';
import { sendRaw } from '../../helpers/clients/raw-request.ts';
import { ROUTE_SAMPLES } from '../../helpers/clients/route-samples.ts';
import { makeSecret } from '../../helpers/secrets.ts';

type Headers = Readonly<Record<string, string>>;

const CHROME = 'Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36';
const FOREIGN_HOSTS = [
  'rebound.example',
  'localhost.rebound.example',
  '127.0.0.1.rebound.example',
  '10.0.0.7',
  'x',
];
const FOREIGN_ORIGINS = [
  'file://',
  'http://127.0.0.1.',
  'http://rebound.example',
  'null',
  'https://127.0.0.1',
  'http://127.0.0.1:1',
  'http://localhost',
];

let known: KnownRepository;

beforeAll(async () => {
  known = cleanup.use(
    await KnownRepository.start({
      environment: {
        SPANDREL_LISTEN_HOSTS: '["registry.example.test"]',
        SPANDREL_ADMIN_HOSTS: '["operations.example.test:8443"]',
      },
    }),
  );
});

/** Status and error code. `host` without a port gets the listener's. */
async function ask(url: string, line: string, host: string, headers: Headers = {}): Promise<string> {
  const address = /:\d+$/.test(host) ? host : `${host}:${new URL(url).port}`;
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const body = line.startsWith('POST') ? '{"image":"known/team/app:1.0"}' : '';
  const answer = await sendRaw(
    url,
    `${line} HTTP/1.1\r\nHost: ${address}\r\nConnection: close\r\nContent-Length: ${body.length}\r\n${lines.join('')}\r\n${body}`,
  );
  const [, status = ''] = /^HTTP\/1\.1 (\d+) /.exec(answer) ?? [];
  const [, code] = /"code":"(\w+)"/.exec(answer) ?? [];
  return code === undefined ? status : `${status} ${code}`;
}

const JSON_BODY = { 'Content-Type': 'application/json' };
const ADMIN_ROUTES: readonly (readonly [line: string, headers: Headers])[] = [
  ['GET /metrics', {}],
  ['GET /api/v1/blobs', {}],
  ['GET /api/v1/images', {}],
  ['GET /api/v1/jobs', {}],
  ['POST /api/v1/warm', JSON_BODY],
  ['POST /api/v1/events/ecr', JSON_BODY],
  [`DELETE /api/v1/blobs/sha256:${'0'.repeat(64)}`, {}],
  ['OPTIONS /api/v1/warm', {}],
  ['GET /no/such', {}],
];

describe('the operations listener, on loopback without a token', () => {
  it.each(ADMIN_ROUTES)('%s is for those who address it by a name of its own', async (line, headers) => {
    const { adminUrl } = known.app;
    for (const host of ['127.0.0.1', 'localhost', 'LOCALHOST', 'app.localhost', '[::1]', 'localhost.'])
      expect(await ask(adminUrl, line, host, headers), host).not.toMatch(/DENIED/);
    expect(await ask(adminUrl, line, 'operations.example.test:8443', headers)).not.toMatch(/DENIED/);
    for (const host of [...FOREIGN_HOSTS, 'operations.example.test:1'])
      expect(await ask(adminUrl, line, host, headers), host).toBe('403 DENIED');
  });

  it.each(ADMIN_ROUTES)('%s is not for pages of other origins', async (line, headers) => {
    const { adminUrl } = known.app;
    const { host } = new URL(adminUrl);
    for (const origin of FOREIGN_ORIGINS)
      expect(await ask(adminUrl, line, host, { ...headers, Origin: origin }), origin).toBe('403 DENIED');
    for (const site of ['cross-site', 'same-site', 'unheard-of'])
      for (const origin of [{}, { Origin: `http://${host}` }, { Origin: 'null' }])
        expect(await ask(adminUrl, line, host, { ...headers, ...origin, 'Sec-Fetch-Site': site })).toBe(
          '403 DENIED',
        );
    for (const origin of [`http://${host}`, 'https://operations.example.test:8443'])
      expect(await ask(adminUrl, line, host, { ...headers, Origin: origin })).not.toMatch(/DENIED/);
    for (const site of ['same-origin', 'none'])
      expect(await ask(adminUrl, line, host, { ...headers, 'Sec-Fetch-Site': site })).not.toMatch(/DENIED/);
  });

  it('goes by the host of an absolute target before Host, and takes only one Host', async () => {
    const { adminUrl } = known.app;
    const { host } = new URL(adminUrl);
    const line = 'GET /api/v1/blobs';
    expect(await ask(adminUrl, `GET http://rebound.example/api/v1/blobs`, host)).toBe('403 DENIED');
    expect(await ask(adminUrl, `GET http://${host}/api/v1/blobs`, 'rebound.example')).toBe('200');
    for (const [first, second] of [
      [host, 'rebound.example'],
      ['rebound.example', host],
    ] as const)
      expect(await ask(adminUrl, line, first, { host: second })).toBe('400 REQUEST_INVALID');
    const bare = await sendRaw(adminUrl, `${line} HTTP/1.1\r\nConnection: close\r\n\r\n`);
    expect(bare).toContain('REQUEST_INVALID');
  });

  it('shows health to everybody: it tells nothing', async () => {
    for (const path of ['/', '/healthz', '/readyz'])
      expect(await ask(known.app.adminUrl, `GET ${path}`, 'rebound.example')).toBe('200');
  });

  it('takes no body that a form can send, whoever seems to send it', async () => {
    const { adminUrl } = known.app;
    for (const route of ['/api/v1/warm', '/api/v1/events/ecr']) {
      for (const type of [
        'text/plain',
        'application/x-www-form-urlencoded',
        'multipart/form-data',
        'text/json',
        '',
      ])
        expect(await ask(adminUrl, `POST ${route}`, 'localhost', { 'Content-Type': type }), type).toBe(
          '403 DENIED',
        );
      // Pages can send a body without a type, too; browsers name their origin with it.
      const { host } = new URL(adminUrl);
      for (const sign of [{ Origin: adminUrl }, { 'Sec-Fetch-Site': 'same-origin' }])
        expect(await ask(adminUrl, `POST ${route}`, host, sign)).toBe('403 DENIED');
      // Nobody has let the page send this, and it is no JSON all the same.
      const typed = { 'Content-Type': 'text/plain', [REQUEST_HEADER]: 'test' };
      expect(await ask(adminUrl, `POST ${route}`, 'localhost', typed)).toBe('400 QUERY_INVALID');
    }
    const json = { 'Content-Type': 'Application/JSON; charset=utf-8' };
    for (const headers of [json, {}])
      expect(await ask(adminUrl, 'POST /api/v1/warm', 'localhost', headers)).toBe('202');
  });

  it('gives no page of another origin leave to send what is no form', async () => {
    const { adminUrl } = known.app;
    const preflight = await fetch(`${adminUrl}/api/v1/warm`, {
      method: 'OPTIONS',
      headers: { 'access-control-request-method': 'POST', 'access-control-request-headers': REQUEST_HEADER },
    });
    const granted = [...preflight.headers.keys()].filter((name) => name.startsWith('access-control-'));
    expect(granted).toEqual([]);
  });
});

describe('the operations listener with a token', () => {
  it('takes it under any name and from any page, and a form with it', async () => {
    const token = makeSecret('admin token');
    const other = cleanup.use(await KnownRepository.start({ environment: { SPANDREL_ADMIN_TOKEN: token } }));
    const shown = { Authorization: `Bearer ${token}`, Origin: 'http://console.example' };
    const { adminUrl } = other.app;
    expect(await ask(adminUrl, 'GET /api/v1/blobs', 'operations.example', shown)).toBe('200');
    const body = { ...shown, 'Content-Type': 'application/json' };
    expect(await ask(adminUrl, 'POST /api/v1/warm', 'operations.example', body)).toBe('202');
    expect(await ask(adminUrl, 'GET /api/v1/blobs', 'localhost')).toBe('401 UNAUTHORIZED');
  });
});

describe('the registry listener, on loopback with open access', () => {
  const paths = [
    '/',
    '/v2/',
    '/v2/_catalog',
    ...Object.values(ROUTE_SAMPLES).map((sample) => `/v2/known/team/app/${sample}`),
    `/known/team/app/${ROUTE_SAMPLES.image}`,
  ];

  it.each(paths)('%s is not for pages whose name has been led here', async (path) => {
    const { url } = known.app;
    const marks: Headers[] = [{ 'Sec-Fetch-Site': 'same-origin' }, { 'User-Agent': CHROME }];
    for (const method of ['GET', 'HEAD', 'OPTIONS']) {
      for (const host of FOREIGN_HOSTS) {
        for (const headers of [...marks, { Origin: `http://${host}:${new URL(url).port}` }])
          expect(await ask(url, `${method} ${path}`, host, headers)).toMatch(/^403/);
        // A proxy before this one, or a client that was told so.
        expect(await ask(url, `${method} ${path}`, host)).not.toMatch(/^403/);
      }
      for (const host of ['127.0.0.1', 'localhost', 'registry.example.test'])
        for (const headers of [...marks, { Origin: `http://${host}:${new URL(url).port}` }])
          expect(await ask(url, `${method} ${path}`, host, headers)).not.toMatch(/^403/);
    }
  });

  it('gives nothing to pages of other origins', async () => {
    const { url } = known.app;
    const { host } = new URL(url);
    for (const headers of [
      { 'Sec-Fetch-Site': 'cross-site' },
      ...FOREIGN_ORIGINS.map((Origin) => ({ Origin })),
    ])
      expect(await ask(url, 'GET /v2/known/team/app/tags/list', host, headers)).toBe('403 DENIED');
  });

  it('gives them nothing of what the upstream gives to all, whatever credentials they send', async () => {
    const { app } = cleanup.use(
      await KnownRepository.start({ environment: { SPANDREL_ACCESS_KIND: 'upstream' } }),
    );
    const asked = [app.url, 'GET /v2/known/team/app/tags/list'] as const;
    const { host } = new URL(app.url);
    expect(await ask(...asked, host, { 'User-Agent': CHROME })).toBe('200');
    for (const headers of [{}, { Authorization: 'Basic bWU6bWU=' }])
      expect(await ask(...asked, 'rebound.example', { 'User-Agent': CHROME, ...headers })).toBe('403 DENIED');
    expect(await ask(...asked, host, { Origin: 'http://rebound.example' })).toBe('403 DENIED');
  });

  it('counts the name of HTTP/2 as that of HTTP/1.1', async () => {
    const certificates = cleanup.use(await createCertificates());
    const { cert, key } = certificates.server;
    const environment = {
      SPANDREL_LISTEN_TLS_CERT: cert,
      SPANDREL_LISTEN_TLS_KEY: key,
      SPANDREL_ADMIN_TLS_CERT: cert,
      SPANDREL_ADMIN_TLS_KEY: key,
    };
    const { app } = cleanup.use(await KnownRepository.start({ environment }));
    for (const [url, path] of [
      [app.url, '/v2/'],
      [app.adminUrl, '/api/v1/blobs'],
    ] as const) {
      const session = await openHttp2(url, certificates.ca);
      const marked = { 'user-agent': CHROME };
      expect((await askHttp2(session, path, marked)).status).toBe(200);
      expect((await askHttp2(session, path, { ...marked, ':authority': 'rebound.example' })).status).toBe(
        403,
      );
    }
  });
});

describe('names of a listener', () => {
  it('can be changed while it runs', async () => {
    const { app } = cleanup.use(await KnownRepository.start());
    const asked = [app.adminUrl, 'GET /api/v1/blobs', 'later.example.test'] as const;
    expect(await ask(...asked)).toBe('403 DENIED');
    await app.reload({ SPANDREL_ADMIN_HOSTS: '["later.example.test"]' });
    expect(await ask(...asked)).toBe('200');
  });

  it('are not the wildcards on which it listens', () => {
    for (const host of ['0.0.0.0', '::', '0:0:0:0:0:0:0:0']) {
      const guard = new PageGuard({ host });
      for (const named of ['0.0.0.0:5001', '[::]:5001'])
        expect(() => guard.admit({ method: 'GET', headers: {}, host: named }), named).toThrow(/no name/);
    }
  });

  it('without a port mean every port, and addresses are compared as such', () => {
    const guard = new PageGuard({ host: 'fd00::5', hosts: ['named.example', 'ported.example:81'] });
    const admits = (host: string): boolean => {
      try {
        guard.admit({ method: 'GET', headers: {}, host });
        return true;
      } catch {
        return false;
      }
    };
    for (const host of ['named.example', 'NAMED.example:9', '[fd00:0::5]:5001', 'ported.example:81', '127.1'])
      expect(admits(host), host).toBe(true);
    for (const host of ['ported.example', 'ported.example:82', '[fd00::6]', 'a:b:c', '', '@localhost'])
      expect(admits(host), host).toBe(false);
  });
});
