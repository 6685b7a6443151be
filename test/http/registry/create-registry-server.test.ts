import { readFile } from 'node:fs/promises';
import { createServer, request as httpsRequest } from 'node:https';
import type { AddressInfo } from 'node:net';

import { beforeEach, describe, expect, it } from 'vitest';

import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { Certificate } from '../../helpers/upstreams/certificate.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { RunningApp } from '../../helpers/running-app.ts';

const MANIFEST = Buffer.from('{"schemaVersion":2,"layers":[]}');
const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';

let upstream: ScriptedRegistry;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
  upstream.addManifest('app', '1.0', MANIFEST, MANIFEST_TYPE);
});

async function start(environment: Record<string, string> = {}, upstreams?: object[]): Promise<RunningApp> {
  return cleanup.use(
    await RunningApp.start({
      upstreams: upstreams ?? [{ name: 'demo', url: upstream.url, default: true }],
      environment,
    }),
  );
}

async function codeOf(response: Response): Promise<[number, string | undefined]> {
  return [response.status, ((await response.json()) as { errors: { code: string }[] }).errors[0]?.code];
}

describe('the registry listener', () => {
  it('refuses pushes with 405 UNSUPPORTED', async () => {
    const { url } = await start();
    for (const [method, path] of [
      ['POST', 'blobs/uploads/'],
      ['PUT', 'manifests/x'],
      ['DELETE', 'manifests/1.0'],
      ['PATCH', 'blobs/uploads/1'],
    ]) {
      const response = await fetch(`${url}/v2/app/${path ?? ''}`, {
        method: method ?? '',
        ...(method === 'DELETE' ? {} : { body: 'x' }),
      });
      expect(response.headers.get('allow')).toBe('GET, HEAD, OPTIONS');
      expect(await codeOf(response)).toEqual([405, 'UNSUPPORTED']);
    }
  });

  it('responds to unknown and malformed paths with an OCI error', async () => {
    const { url } = await start();
    for (const path of ['/v1/', '/v2/_catalog/', '/favicon.ico', '/v2/app/', '/v2/app/%zz/x/y']) {
      const [status, code] = await codeOf(await fetch(url + path));
      expect([status, code === 'ROUTE_UNKNOWN' || code === 'QUERY_INVALID'], path).toEqual([
        status === 400 ? 400 : 404,
        true,
      ]);
    }
  });

  it('selects the upstream by ns, prefix or default, and names that of ns in OCI-Namespace', async () => {
    const { url } = await start();
    for (const path of ['/v2/app', '/v2/demo/app'])
      expect((await fetch(`${url}${path}/manifests/1.0`)).status).toBe(200);
    const named = await fetch(`${url}/v2/app/manifests/1.0?ns=${upstream.host}`);
    expect([named.status, named.headers.get('oci-namespace')]).toEqual([200, upstream.host]);
    expect(await codeOf(await fetch(`${url}/v2/app/manifests/1.0?ns=evil.example.com`))).toEqual([
      403,
      'DENIED',
    ]);
  });

  it('serves a tag as last seen while the upstream is away', async () => {
    const { url } = await start({ SPANDREL_UPSTREAM_RETRIES: '0' });
    expect((await fetch(`${url}/v2/app/manifests/1.0`)).status).toBe(200);
    await upstream[Symbol.asyncDispose]();
    const stale = await fetch(`${url}/v2/app/manifests/1.0`);
    expect([stale.status, stale.headers.get('content-type'), stale.headers.get('cache-status')]).toEqual([
      200,
      MANIFEST_TYPE,
      'Spandrel; hit; detail=disk',
    ]);
    expect(await codeOf(await fetch(`${url}/v2/app/manifests/other`))).toEqual([502, 'UPSTREAM_UNREACHABLE']);
  });

  it('releases a blob after every kind of response', async () => {
    const bytes = new Uint8Array(1000).fill(1);
    const digest = await upstream.addBlob('app', bytes);
    const { url, adminUrl } = await start();
    const blob = `${url}/v2/app/blobs/${digest}`;
    for (const [headers, status] of [
      [{}, 200],
      [{ range: 'bytes=0-9' }, 206],
      [{ range: 'bytes=0-9,20-29' }, 206],
      [{ range: 'bytes=1000-' }, 416],
      [{ 'if-none-match': `"${digest}"` }, 304],
    ] as const) {
      const response = await fetch(blob, { headers });
      await response.arrayBuffer();
      expect(response.status).toBe(status);
    }
    expect((await fetch(blob, { method: 'HEAD' })).headers.get('content-length')).toBe('1000');
    // The client has the last byte a moment before the server lets go.
    const remove = async (): Promise<number> =>
      (await fetch(`${adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' })).status;
    await expect.poll(remove).toBe(204);
  });

  it('admits only the configured networks', async () => {
    const { url } = await start({ SPANDREL_ACCESS_CIDRS: '["10.0.0.0/8"]' });
    expect(await codeOf(await fetch(`${url}/v2/`))).toEqual([403, 'DENIED']);
  });

  it('limits the requests of one address', async () => {
    const { url } = await start({ SPANDREL_LIMITS_REQUESTS_PER_SECOND: '1' });
    const answers = await Promise.all(Array.from({ length: 20 }, () => fetch(`${url}/v2/`)));
    const refused = answers.filter(({ status }) => status === 503);
    expect(refused.length).toBeGreaterThan(0);
    expect(refused[0]?.headers.get('retry-after')).toBe('1');
  });

  it('serves TLS, and trusts the configured authority of an upstream', async () => {
    const { key, cert } = cleanup.use(await Certificate.create());
    const tls = { key: await readFile(key), cert: await readFile(cert) };
    const server = createServer(tls, (request, response) => {
      response.setHeader('content-type', MANIFEST_TYPE);
      response.end(request.url === '/v2/app/manifests/1.0' ? MANIFEST : undefined);
    });
    await new Promise<void>((resolve) => void server.listen(0, '127.0.0.1', resolve));
    cleanup.defer(() => void server.close());
    const port = (server.address() as AddressInfo).port;
    const secured = { name: 'secure', url: `https://127.0.0.1:${port}`, ca: cert, default: true };
    const { url } = await start({ SPANDREL_LISTEN_TLS_CERT: cert, SPANDREL_LISTEN_TLS_KEY: key }, [secured]);
    expect(url).toMatch(/^https:/);
    const body = await new Promise<string>((resolve, reject) => {
      const asking = httpsRequest(`${url}/v2/app/manifests/1.0`, { ca: tls.cert }, (response) => {
        response.setEncoding('utf8');
        let text = '';
        response.on('data', (chunk: string) => (text += chunk));
        response.on('end', () => resolve(text));
      });
      asking.on('error', reject);
      asking.end();
    });
    expect(body).toBe(MANIFEST.toString());
  });
});
