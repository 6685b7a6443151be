import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { parseRequestTarget } from '../../../src/http/requests/request-target.ts';
import { sendRaw } from '../../helpers/clients/raw-request.ts';
import { RunningApp } from '../../helpers/running-app.ts';
import { makeSecret } from '../../helpers/secrets.ts';

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';

describe('parseRequestTarget', () => {
  it.each([
    ['/', undefined, '/', ''],
    ['/v2/a?n=1&x=%3F', undefined, '/v2/a', 'n=1&x=%3F'],
    ['/v2/a?', undefined, '/v2/a', ''],
    ['//v2/', undefined, '//v2/', ''],
    ['http://host/v2/', 'host', '/v2/', ''],
    ['HTTPS://host:5000/v2/?a=http://b/', 'host:5000', '/v2/', 'a=http://b/'],
    ['http://[::1]:5000/v2/', '[::1]:5000', '/v2/', ''],
    ['http://host', 'host', '/', ''],
    ['http://host?a=/b', 'host', '/', 'a=/b'],
    ['http://host//v2/', 'host', '//v2/', ''],
    ['*', undefined, '*', ''],
  ])('%s', (text, host, path, query) => {
    expect(parseRequestTarget(text)).toEqual({ host, path, query });
  });

  it.each(['', 'host:80', 'v2/', '?a', 'ftp://host/', 'http:///v2/', 'http://user@host/', 'http:/v2/'])(
    '%j is no target',
    (text) => {
      expect(() => parseRequestTarget(text)).toThrow(
        expect.objectContaining({ code: 'REQUEST_INVALID' }) as Error,
      );
    },
  );
});

describe('a request whose target is absolute', () => {
  const stack = new AsyncDisposableStack();
  const manifests = {
    first: Buffer.from('{"schemaVersion":2,"first":1}'),
    second: Buffer.from('{"schemaVersion":2}'),
  };
  let app: RunningApp;

  beforeAll(async () => {
    const [first, second] = [
      stack.use(await ScriptedRegistry.start()),
      stack.use(await ScriptedRegistry.start()),
    ];
    first.addManifest('app', '1.0', manifests.first, MANIFEST_TYPE);
    second.addManifest('app', '1.0', manifests.second, MANIFEST_TYPE);
    const upstreams = [
      { name: 'first', url: first.url, default: true },
      { name: 'second', url: second.url, hostnames: ['second.test'] },
    ];
    const environment = { SPANDREL_ADMIN_TOKEN: makeSecret('admin token') };
    app = stack.use(await RunningApp.start({ upstreams, environment }));
  });

  afterAll(() => stack.disposeAsync());

  /** Status and body. */
  async function ask(url: string, target: string, host: string, method = 'GET'): Promise<[number, string]> {
    const head = `${method} ${target} HTTP/1.1\r\nHost: ${host}\r\nConnection: close\r\n\r\n`;
    const answer = await sendRaw(url, head);
    return [Number(answer.slice(9, 12)), answer.slice(answer.indexOf('\r\n\r\n') + 4)];
  }

  it.each(['http', 'https', 'HTTP'])('gets the response of its path: %s', async (scheme) => {
    const { host } = new URL(app.url);
    const target = `${scheme}://${host}/v2/app/manifests/1.0`;
    expect(await ask(app.url, target, host)).toEqual([200, manifests.first.toString()]);
    expect(await ask(app.url, target, host, 'HEAD')).toEqual([200, '']);
    expect((await ask(app.url, `${scheme}://${host}/v2/`, host))[0]).toBe(200);
    expect((await ask(app.url, `${scheme}://${host}`, host))[0]).toBe(200);
    expect((await ask(app.url, `${scheme}://${host}/v3/`, host))[0]).toBe(404);
  });

  it('selects the upstream by its own host, whatever Host is (RFC 9112, section 3.2.2)', async () => {
    for (const host of ['second.test', 'SECOND.test:443'])
      expect(await ask(app.url, `http://${host}/v2/app/manifests/1.0`, 'other.test')).toEqual([
        200,
        manifests.second.toString(),
      ]);
    expect(await ask(app.url, 'http://other.test/v2/app/manifests/1.0', 'second.test')).toEqual([
      200,
      manifests.first.toString(),
    ]);
  });

  it('keeps its query, and links to the next page by path', async () => {
    const denied = await ask(app.url, 'http://x/v2/app/manifests/1.0?ns=elsewhere.test', 'x');
    expect(denied[0]).toBe(403);
    const paged = await sendRaw(
      app.url,
      'GET http://x/v2/_catalog?n=1 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    );
    expect(paged).toMatch(/^link: <\/v2\/_catalog\?n=1&last=app>; rel="next"\r$/m);
  });

  it('still needs exactly one Host header', async () => {
    expect(await sendRaw(app.url, 'GET http://x/v2/ HTTP/1.1\r\n\r\n')).toMatch(/^HTTP\/1\.1 400 /);
    expect(await sendRaw(app.url, 'GET http://x/v2/ HTTP/1.0\r\n\r\n')).toMatch(/^HTTP\/1\.1 200 /);
  });

  it('passes no check of the admin listener that its path does not pass', async () => {
    expect((await ask(app.adminUrl, 'http://x/healthz', 'x'))[0]).toBe(200);
    for (const target of ['http://x/api/v1/blobs', 'http://healthz/api/v1/blobs', 'http://x#/api/v1/blobs'])
      expect([400, 401, 404], target).toContain((await ask(app.adminUrl, target, 'x'))[0]);
    // A host without a path is the front page, whatever its query says.
    expect((await ask(app.adminUrl, 'http://x?/api/v1/blobs', 'x'))[1]).not.toContain('usage');
  });
});
