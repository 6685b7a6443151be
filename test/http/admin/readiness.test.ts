import { beforeEach, expect, it } from 'vitest';

import { parseConfig } from '../../../src/config/parse-config.ts';
import { ScriptedRegistry } from '../../registry/scripted-registry.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { serveWith } from '../../helpers/proxy-with.ts';
import { openSocket, readToEnd } from '../../helpers/clients/raw-request.ts';
import { RedisServer } from '../../helpers/upstreams/redis-server.ts';
import { RunningApp } from '../../helpers/running-app.ts';
import { ScriptedUpstream } from '../../helpers/upstreams/scripted-upstream.ts';

let upstream: ScriptedRegistry;

beforeEach(async () => {
  upstream = cleanup.use(await ScriptedRegistry.start());
});

async function start(upstreams: readonly object[], environment: Record<string, string>): Promise<RunningApp> {
  return cleanup.use(await RunningApp.start({ upstreams, environment }));
}

async function readiness(adminUrl: string): Promise<unknown> {
  const response = await fetch(`${adminUrl}/readyz`);
  return [response.status, await response.json()];
}

it.each([false, true])(
  'Redis keeps the proxy from being ready only if it is required (%s)',
  async (required) => {
    const redis = cleanup.use(await RedisServer.start());
    const { adminUrl } = await start([{ name: 'demo', url: upstream.url }], {
      SPANDREL_CACHE_REDIS_URL: redis.url,
      SPANDREL_READY_REDIS: String(required),
    });
    const ready = [200, { status: 'ready', missing: [], checks: { redis: 'ready' } }];
    expect(await readiness(adminUrl)).toMatchObject(ready);
    await redis.stop();
    const lost = required
      ? [503, { status: 'failing', missing: ['redis'], checks: { redis: 'lost', store: true } }]
      : [200, { status: 'ready', missing: [], checks: { redis: 'lost' } }];
    expect(await readiness(adminUrl)).toMatchObject(lost);
    await redis.resume();
    await expect.poll(() => readiness(adminUrl), { timeout: 15_000 }).toMatchObject(ready);
  },
);

it('an upstream that is required is named while it does not answer, others are not asked', async () => {
  const other = cleanup.use(await ScriptedUpstream.start((_request, response) => response.end('{}')));
  let isDown = false;
  const wanted = cleanup.use(
    await ScriptedUpstream.start((_request, response) => response.writeHead(isDown ? 503 : 200).end('{}')),
  );
  const upstreams = [
    { name: 'wanted', url: wanted.url },
    { name: 'other', url: other.url },
  ];
  const { adminUrl } = await start(upstreams, {
    SPANDREL_READY_UPSTREAMS: '["wanted"]',
    SPANDREL_UPSTREAM_RETRIES: '0',
    SPANDREL_UPSTREAM_CIRCUIT_OPEN_MS: '500',
  });
  const ready = [200, { status: 'ready', missing: [], checks: { upstreams: { wanted: 'ready' } } }];
  // Whoever asks all the time does not make the proxy do so.
  for (let count = 0; count < 20; count++) expect(await readiness(adminUrl)).toMatchObject(ready);
  expect(wanted.requests.length).toBeLessThan(5);
  isDown = true;
  await expect
    .poll(() => readiness(adminUrl), { timeout: 15_000 })
    .toMatchObject([
      503,
      {
        status: 'failing',
        missing: ['upstream wanted'],
        checks: { store: true, upstreams: { wanted: 'UPSTREAM_UNREACHABLE' } },
      },
    ]);
  isDown = false;
  await expect.poll(() => readiness(adminUrl), { timeout: 15_000 }).toMatchObject(ready);
  await wanted[Symbol.asyncDispose]();
  await expect.poll(() => readiness(adminUrl), { timeout: 15_000 }).toMatchObject([503, {}]);
  expect(other.requests).toEqual([]);
});

it('an upstream that is silent or refuses our credentials is missing too, in time', async () => {
  const silent = cleanup.use(await ScriptedUpstream.start(() => undefined));
  const strict = cleanup.use(
    await ScriptedUpstream.start((_request, response) => response.writeHead(403).end()),
  );
  const upstreams = [
    { name: 'silent', url: silent.url },
    { name: 'strict', url: strict.url },
  ];
  const { adminUrl } = await start(upstreams, { SPANDREL_READY_UPSTREAMS: '["silent","strict"]' });
  expect(await readiness(adminUrl)).toMatchObject([
    503,
    {
      missing: ['upstream silent', 'upstream strict'],
      checks: { upstreams: { silent: 'UPSTREAM_TIMEOUT', strict: 'DENIED' } },
    },
  ]);
});

it('from SIGTERM to the end of the last answer the proxy says that it is stopping', async () => {
  const digest = await upstream.addBlob('app', new Uint8Array(300_000).fill(7));
  const held = Promise.withResolvers<void>();
  upstream.faults.add({ match: { path: /blobs/ }, action: { kind: 'hold', until: held.promise } });
  const environment = { SPANDREL_SHUTDOWN_GRACE_MS: '30000' };
  const { process: child, url, adminUrl } = await serveWith(upstream, { environment });
  const answer = fetch(`${url}/v2/app/blobs/${digest}`);
  const busy = await openSocket(url);
  const responses = readToEnd(busy);
  busy.write(`GET /v2/app/blobs/${digest} HTTP/1.1\r\nHost: x\r\n\r\n`);
  await upstream.requests.waitFor(({ path }) => path.includes('blobs'));
  expect(await readiness(adminUrl)).toMatchObject([200, {}]);
  child.kill('SIGTERM');
  const stopping = [503, { status: 'stopping', missing: ['accepting'], checks: { accepting: false } }];
  await expect.poll(() => readiness(adminUrl)).toMatchObject(stopping);
  await expect(fetch(`${url}/v2/`)).rejects.toThrow('fetch failed');
  expect(await readiness(adminUrl)).toMatchObject(stopping);
  busy.write('GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n');
  held.resolve();
  expect((await (await answer).arrayBuffer()).byteLength).toBe(300_000);
  expect(await responses).toMatch(/\u0007HTTP\/1\.1 503 [\s\S]*"errors":\[\{"code":"SHUTTING_DOWN"/);
  expect(await child.exitStatus()).toBe(0);
});

it.each([
  [{ SPANDREL_READY_REDIS: 'true' }, 'ready.redis: needs cache.redis.url'],
  [{ SPANDREL_READY_UPSTREAMS: '["nowhere"]' }, 'ready.upstreams: there is no upstream "nowhere"'],
])('what is required must be configured: %j', (environment, problem) => {
  expect(() => parseConfig({ yaml: '', environment })).toThrow(problem);
});
