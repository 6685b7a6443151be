import { once } from 'node:events';
import { connect } from 'node:http2';
import { buffer } from 'node:stream/consumers';
import { gzipSync } from 'node:zlib';

import { beforeEach, describe, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { createCertificates } from '../helpers/upstreams/listener-certificates.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { proxyWith } from '../helpers/proxy-with.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { ScriptedUpstream } from '../helpers/upstreams/scripted-upstream.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { watchResponses } from '../helpers/clients/watch-responses.ts';

const TAR = tarArchive({ 'model.bin': randomBlob(300_000, 5) });
const BLOB = gzipSync(TAR);
const digest = digestOf(BLOB);
const TAR_PATH = `_soci/layers/${digest}/tar`;

/** What the upstream does after the head of a body, which it sends at once. */
let bodies: PromiseWithResolvers<'sends' | 'breaks'>;
let upstream: ScriptedUpstream;

beforeEach(async () => {
  bodies = Promise.withResolvers();
  upstream = await ScriptedUpstream.start(({ method, url, headers }, response) => {
    if (!url.endsWith(digest)) return response.writeHead(404).end();
    const [, first = '0', last = ''] = /^bytes=(\d+)-(\d*)$/.exec(headers.range ?? '') ?? [];
    const end = last === '' ? BLOB.length : Math.min(Number(last) + 1, BLOB.length);
    const body = BLOB.subarray(Number(first), end);
    response.writeHead(headers.range === undefined ? 200 : 206, {
      'content-length': body.length,
      ...(headers.range === undefined ? {} : { 'content-range': `bytes ${first}-${end - 1}/${BLOB.length}` }),
    });
    if (method === 'HEAD') return response.end();
    response.flushHeaders();
    return void bodies.promise.then((next) => (next === 'sends' ? response.end(body) : response.destroy()));
  });
  cleanup.use(upstream);
});

async function startApp(environment: Record<string, string> = {}): Promise<RunningApp> {
  return proxyWith(upstream, { upstream: { hostnames: ['localhost'] }, environment });
}

async function start(environment?: Record<string, string>): Promise<string> {
  return `${(await startApp(environment)).url}/v2/app/`;
}

describe('a body whose first byte takes long', () => {
  it.each([
    ['a blob', `blobs/${digest}`, {}, 200, BLOB],
    ['a range of a blob', `blobs/${digest}`, { range: 'bytes=100-199' }, 206, BLOB.subarray(100, 200)],
  ])('follows its head: %s', async (_what, path, headers, status, expected) => {
    const url = await start();
    // Resolves with the head, which the upstream would wait for in vain.
    const answer = await fetch(url + path, { headers });
    expect(answer.status).toBe(status);
    bodies.resolve('sends');
    expect(Buffer.from(await answer.arrayBuffer()).equals(expected)).toBe(true);
  });

  it('follows its head: decompressed bytes of a layer that is indexed and no longer stored', async () => {
    const app = await startApp({ SPANDREL_CACHE_MEMORY_BYTES: '0' });
    bodies.resolve('sends');
    const url = `${app.url}/v2/app/${TAR_PATH}`;
    await (await fetch(url, { headers: { range: 'bytes=-1' } })).arrayBuffer();
    const removed = async (): Promise<boolean> =>
      (await fetch(`${app.adminUrl}/api/v1/blobs/${digest}`, { method: 'DELETE' })).ok;
    await expect.poll(removed).toBe(true);
    bodies = Promise.withResolvers();
    const answer = await fetch(url);
    expect([answer.status, answer.headers.get('content-length')]).toEqual([200, String(TAR.length)]);
    bodies.resolve('sends');
    expect(Buffer.from(await answer.arrayBuffer()).equals(TAR)).toBe(true);
  });

  it('follows its head over HTTP/2', async () => {
    const certificates = cleanup.use(await createCertificates());
    const url = new URL(
      await start({
        SPANDREL_LISTEN_TLS_CERT: certificates.server.cert,
        SPANDREL_LISTEN_TLS_KEY: certificates.server.key,
      }),
    );
    const session = connect(`https://localhost:${url.port}`, { ca: certificates.ca });
    cleanup.defer(() => session.destroy());
    const stream = session.request({ ':path': `${url.pathname}blobs/${digest}` });
    const [head] = (await once(stream, 'response')) as [Record<string, unknown>];
    expect([head[':status'], head['content-length']]).toEqual([200, String(BLOB.length)]);
    bodies.resolve('sends');
    expect((await buffer(stream)).equals(BLOB)).toBe(true);
  });

  it('that fails after its head breaks the connection', async () => {
    const url = await start({ SPANDREL_UPSTREAM_RETRIES: '0' });
    const answer = await fetch(`${url}blobs/${digest}`);
    expect(answer.status).toBe(200);
    bodies.resolve('breaks');
    await expect(answer.arrayBuffer()).rejects.toThrow('terminated');
  });

  it('does not count as time in which the client reads nothing', async () => {
    const url = await start({ SPANDREL_LIMITS_STALLED_CLIENT_MS: '3600000' });
    const responses = watchResponses(new URL(url).host);
    const asked = fetch(`${url}blobs/${digest}`);
    await expect
      .poll(() => responses[0]?.listenerCount('timeout') ?? 0, { timeout: 20_000 })
      .toBeGreaterThan(0);
    // As Node does when that time is over.
    responses[0]?.emit('timeout');
    bodies.resolve('sends');
    expect(Buffer.from(await (await asked).arrayBuffer()).equals(BLOB)).toBe(true);
  });

  it('that fails before is answered with an error', async () => {
    const url = await start({ SPANDREL_UPSTREAM_RETRIES: '0' });
    bodies.resolve('breaks');
    const answer = await fetch(`${url}blobs/${digest}`);
    expect(answer.status).toBe(502);
    await answer.arrayBuffer();
  });

  it('is nothing that a HEAD waits for', async () => {
    const url = await start();
    const answer = await fetch(`${url}blobs/${digest}`, { method: 'HEAD' });
    expect([answer.status, answer.headers.get('content-length')]).toEqual([200, String(BLOB.length)]);
  });

  it.each([`blobs/${digest}`, TAR_PATH])(
    'is asked for again by a snapshotter, which repeats a 503: %s',
    async (path) => {
      const url = await start();
      const headers = { 'user-agent': 'soci-snapshotter/0.15.0', range: 'bytes=0-9' };
      const early = await fetch(url + path, { headers });
      expect([early.status, early.headers.get('retry-after')]).toEqual([503, '1']);
      expect(await early.text()).toContain('ANSWER_PENDING');
      bodies.resolve('sends');
      const answer = await fetch(url + path, { headers });
      expect(answer.status).toBe(206);
      const expected = (path === TAR_PATH ? TAR : BLOB).subarray(0, 10);
      expect(Buffer.from(await answer.arrayBuffer()).equals(expected)).toBe(true);
    },
  );
});
