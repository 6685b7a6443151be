import { beforeAll, describe, expect, it } from 'vitest';

import { preferredType } from '../../../src/http/requests/preferred-type.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';
import { makeSecret } from '../../helpers/secrets.ts';

let app: RunningApp;
const SECRET = makeSecret('admin token');

beforeAll(async () => {
  app = await proxyWith(
    { url: 'http://127.0.0.1:9' },
    {
      upstream: { name: 'hidden-name', host: 'hidden.example.com' },
      environment: {
        SPANDREL_ACCESS_KIND: 'upstream',
        SPANDREL_UPSTREAM_RETRIES: '0',
        SPANDREL_ADMIN_TOKEN: SECRET,
      },
    },
  );
});

describe.each([
  ['registry', () => app.url, '/v2/_catalog'],
  ['operations', () => app.adminUrl, '/metrics'],
] as const)('GET / of the %s listener', (_name, url, place) => {
  it.each([
    ['*/*', 'text/plain; charset=utf-8'],
    ['text/html,application/xhtml+xml,*/*;q=0.8', 'text/html; charset=utf-8'],
    ['application/json', 'application/json'],
    ['image/png', 'text/plain; charset=utf-8'],
  ])(
    'says what this is and where to look, to anybody, as Accept: %s likes it',
    async (accept, contentType) => {
      const response = await fetch(`${url()}/`, { headers: { accept } });
      expect([response.status, response.headers.get('content-type')]).toEqual([200, contentType]);
      expect(response.headers.get('vary')).toBe('accept');
      const text = await response.text();
      expect(text).toMatch(/Spandrel/);
      expect(text).toContain(place);
      expect(text).not.toMatch(/hidden|127\.0\.0\.1/);
      const head = await fetch(`${url()}/`, { method: 'HEAD', headers: { accept } });
      expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([
        200,
        String(Buffer.byteLength(text)),
        '',
      ]);
    },
  );

  it('opens nothing else', async () => {
    // The operations listener wants its token, the registry an upstream that could say who may read.
    expect([401, 502]).toContain((await fetch(`${url()}${place}`)).status);
  });
});

describe('preferredType', () => {
  const offered = ['text/plain', 'text/html', 'application/json'] as const;

  it.each([
    [undefined, 'text/plain'],
    ['', 'text/plain'],
    ['TEXT/HTML', 'text/html'],
    ['text/*', 'text/plain'],
    ['text/*;q=0.5, application/json', 'application/json'],
    ['text/plain;q=0, */*', 'text/html'],
    ['text/html;q=0.2;level=1, application/json;q=0.3', 'application/json'],
    ['application/json;q=x', 'text/plain'],
  ])('of %j is %s', (accept, expected) => {
    expect(preferredType(accept, offered)).toBe(expected);
  });
});
