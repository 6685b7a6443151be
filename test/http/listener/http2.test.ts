import { once } from 'node:events';
import { type ClientHttp2Session, constants } from 'node:http2';
import { request } from 'node:https';

import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../../src/core/digest.ts';
import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { askHttp2, openHttp2 } from '../../helpers/clients/http2-client.ts';
import { createCertificates } from '../../helpers/upstreams/listener-certificates.ts';
import { ROUTE_SAMPLES } from '../../helpers/clients/route-samples.ts';
import { proxyWith } from '../../helpers/proxy-with.ts';
import type { RunningApp } from '../../helpers/running-app.ts';

let upstream: ScriptedRegistry;
let ca: Buffer;
let environment: Record<string, string>;

beforeEach(async () => {
  const certificates = cleanup.use(await createCertificates());
  ca = certificates.ca;
  environment = {
    SPANDREL_LISTEN_TLS_CERT: certificates.server.cert,
    SPANDREL_LISTEN_TLS_KEY: certificates.server.key,
  };
  upstream = cleanup.use(await ScriptedRegistry.start());
  upstream.addManifest(
    'app',
    '1.0',
    Buffer.from('{"schemaVersion":2}'),
    'application/vnd.oci.image.manifest.v1+json',
  );
});

async function start(more: Record<string, string> = {}): Promise<RunningApp> {
  return proxyWith(upstream, {
    upstream: { name: 'demo', hostnames: ['localhost'] },
    environment: { ...environment, ...more },
  });
}

function open(url: string): Promise<ClientHttp2Session> {
  return openHttp2(url, ca);
}

describe('HTTP/2', () => {
  it('is spoken where the client offers it, on every route, chosen by :authority too', async () => {
    const session = await open((await start()).url);
    expect(session.alpnProtocol).toBe('h2');
    const { status, headers } = await askHttp2(session, '/v2/app/manifests/1.0');
    expect([status, headers['docker-content-digest']]).toEqual([
      200,
      digestOf(Buffer.from('{"schemaVersion":2}')),
    ]);
    for (const [route, sample] of Object.entries(ROUTE_SAMPLES)) {
      const answer = await askHttp2(session, `/v2/app/${sample}`);
      if (answer.status !== 200) {
        expect(answer.status, route).toBeLessThan(500);
        expect(JSON.parse(answer.body.toString()), route).toMatchObject({
          errors: [{ code: expect.any(String) as string }],
        });
      }
    }
    const head = await askHttp2(session, '/v2/app/manifests/1.0', { ':method': 'HEAD' });
    expect([head.status, head.headers['content-length'], head.body.length]).toEqual([200, '19', 0]);
    expect((await askHttp2(session, '/v2/app/manifests/1.0', { ':method': 'PUT' })).status).toBe(405);
  });

  it('cuts off a stream whose client takes nothing, and no other stream of the connection', async () => {
    const digest = await upstream.addBlob('app', Buffer.alloc(3_000_000, 'x'));
    const app = await start({ SPANDREL_LIMITS_STALLED_CLIENT_MS: '300' });
    const session = await open(app.url);
    const stalled = session.request({ ':path': `/v2/app/blobs/${digest}` });
    stalled.pause();
    stalled.end();
    await expect(once(stalled, 'close')).rejects.toThrow('NGHTTP2_INTERNAL_ERROR');
    expect((await askHttp2(session, '/v2/app/manifests/1.0')).status).toBe(200);
  });

  it('serves blobs and their ranges, many at once', async () => {
    const blob = Buffer.from(
      Uint8Array.from({ length: 3_000_000 }, (_, place) => (place * 31 + (place >> 8)) % 251),
    );
    const digest = await upstream.addBlob('app', blob);
    const session = await open((await start()).url);
    const path = `/v2/app/blobs/${digest}`;
    const whole = await askHttp2(session, path);
    expect(whole.headers['content-length']).toBe('3000000');
    expect(whole.body.equals(blob)).toBe(true);
    const parts = await Promise.all(
      Array.from({ length: 60 }, (_, place) =>
        askHttp2(session, path, { range: `bytes=${place * 50_000}-${place * 50_000 + 49_999}` }),
      ),
    );
    expect(parts.every(({ status }) => status === 206)).toBe(true);
    expect(Buffer.concat(parts.map(({ body }) => body)).equals(blob)).toBe(true);
    expect((await askHttp2(session, path, { range: 'bytes=3000000-' })).status).toBe(416);
    expect((await askHttp2(session, path, { range: 'bytes=0-9,20-29' })).status).toBe(206);
  });

  it('ends a stream with an error when the bytes cannot be had, and no other stream with it', async () => {
    // Bytes that do not match their digest, which shows at their end.
    const digest = await upstream.addBlob('app', new Uint8Array(3_000_000).fill(1), digestOf('other bytes'));
    const { url } = await start({ SPANDREL_UPSTREAM_RETRIES: '0' });
    const session = await open(url);
    await expect(askHttp2(session, `/v2/app/blobs/${digest}`)).rejects.toThrow(/NGHTTP2|closed with/);
    expect((await askHttp2(session, '/v2/app/manifests/1.0')).status).toBe(200);
  });

  it('lets a client leave in the middle of an answer', async () => {
    const blob = new Uint8Array(20_000_000).fill(3);
    const digest = await upstream.addBlob('app', blob);
    const app = await start();
    const session = await open(app.url);
    const stream = session.request({ ':path': `/v2/app/blobs/${digest}` });
    stream.on('error', () => undefined);
    await once(stream, 'data');
    stream.close(constants.NGHTTP2_CANCEL);
    await once(stream, 'close');
    const again = await askHttp2(session, `/v2/app/blobs/${digest}`, { range: 'bytes=19999990-' });
    expect(again.body).toEqual(Buffer.alloc(10, 3));
    session.destroy();
    // Nothing holds on to the blob any more.
    const remove = async (): Promise<number> =>
      (await fetch(`${app.adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' })).status;
    await expect.poll(remove, { timeout: 10_000 }).toBe(204);
  });

  it('bounds streams and headers', async () => {
    const { url } = await start({
      SPANDREL_LIMITS_MAX_STREAMS: '7',
      SPANDREL_LIMITS_MAX_HEADER_BYTES: '8KiB',
    });
    const session = await open(url);
    await expect.poll(() => session.remoteSettings?.maxConcurrentStreams).toBe(7);
    await expect(askHttp2(session, '/v2/', { x: 'a'.repeat(20_000) })).rejects.toThrow(/NGHTTP2|closed with/);
    expect((await askHttp2(await open(url), '/v2/')).status).toBe(200);
  });

  it('takes no more from a connection that resets stream after stream (CVE-2023-44487)', async () => {
    const app = await start();
    const session = await open(app.url);
    for (let round = 0; round < 5_000 && !session.destroyed; round++) {
      const stream = session.request({ ':path': '/v2/' });
      stream.on('error', () => undefined);
      stream.close(constants.NGHTTP2_CANCEL);
      if (round % 50 === 0) await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await askHttp2(await open(app.url), '/v2/')).status).toBe(200);
    const text = await (await fetch(`${app.adminUrl}/metrics`)).text();
    const counts = [...text.matchAll(/^spandrel_http_requests_total\{route="base".*\} (\d+)$/gm)];
    expect(counts.reduce((sum, [, count]) => sum + Number(count), 0)).toBeLessThan(2_500);
  });

  it('is not forced on those who do not offer it', async () => {
    const { url } = await start();
    const version = await new Promise((resolve, reject) => {
      const asking = request(`${url}/v2/`, { ca }, (answer) => {
        answer.resume();
        resolve(answer.httpVersion);
      });
      asking.on('error', reject);
      asking.end();
    });
    expect(version).toBe('1.1');
  });
});
