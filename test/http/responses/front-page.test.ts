import { beforeAll, describe, expect, it } from 'vitest';

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
  ['registry', () => app.url, '/v2/_catalog', 'spandrel doctor'],
  ['operations', () => app.adminUrl, '/metrics', 'spandrel warm'],
] as const)('GET / of the %s listener', (_name, url, place, next) => {
  it.each([
    ['*/*', 'text/plain; charset=utf-8'],
    ['text/html,application/xhtml+xml,*/*;q=0.8', 'text/html; charset=utf-8'],
    ['application/json', 'application/json'],
    ['image/png', 'text/plain; charset=utf-8'],
  ])(
    'shows everybody what it is and where to look, in the type that Accept: %s prefers',
    async (accept, contentType) => {
      const response = await fetch(`${url()}/`, { headers: { accept } });
      expect([response.status, response.headers.get('content-type')]).toEqual([200, contentType]);
      expect(response.headers.get('vary')).toBe('accept');
      const text = await response.text();
      expect(text).toMatch(/Spandrel/);
      expect(text).toContain(place);
      if (contentType.startsWith('text/')) expect(text).toContain(next);
      expect(text).not.toMatch(/hidden|127\.0\.0\.1/);
      const head = await fetch(`${url()}/`, { method: 'HEAD', headers: { accept } });
      expect([head.status, head.headers.get('content-length'), await head.text()]).toEqual([
        200,
        String(Buffer.byteLength(text)),
        '',
      ]);
    },
  );

  it('leaves all other routes guarded', async () => {
    // The admin listener requires its token, and no upstream can tell who may read.
    expect([401, 502]).toContain((await fetch(`${url()}${place}`)).status);
  });

  it('is HTML whose only tags are its own, and text of short lines', async () => {
    const get = async (accept: string): Promise<string> =>
      (await fetch(`${url()}/`, { headers: { accept } })).text();
    const tags = new Set(Array.from((await get('text/html')).matchAll(/<\/?([^\s>]*)/g), ([, tag]) => tag));
    expect(tags).toEqual(new Set(['!doctype', 'html', 'meta', 'title', 'p', 'dl', 'dt', 'dd', 'a']));
    for (const line of (await get('text/plain')).split('\n')) expect(line.length).toBeLessThanOrEqual(90);
  });
});
