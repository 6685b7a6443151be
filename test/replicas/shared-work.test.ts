import { randomBytes } from 'node:crypto';

import { expect, it, vi } from 'vitest';

import { Events } from '../../src/telemetry/events.ts';
import { RequestPace } from '../../src/upstream/transport/request-pace.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { tarArchive } from '../helpers/layers/tar-blocks.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { gzipLayer, ImageUpstream } from '../helpers/upstreams/image-upstream.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

it('every replica lists the jobs of all that are alive, the newest first', async () => {
  const redis = cleanup.use(await RedisServer.start());
  const upstream = cleanup.use(await ImageUpstream.start());
  const layers = [gzipLayer(tarArchive({ file: Uint8Array.from(randomBytes(100_000)) }))];
  await upstream.addImage('app', layers);
  const [first, second, third] = await startReplicas(3, upstream, redis);
  if (first === undefined || second === undefined || third === undefined)
    throw new Error('three are started');
  const ids: string[] = [];
  for (const app of [first, second]) {
    const body = JSON.stringify({ image: 'up/app:latest' });
    const headers = { 'content-type': 'application/json' };
    const response = await fetch(`${app.adminUrl}/api/v1/warm`, { method: 'POST', headers, body });
    ids.unshift(((await response.json()) as { id: string }).id);
  }
  const listed = async (app: RunningApp): Promise<string[]> => {
    const response = await fetch(`${app.adminUrl}/api/v1/jobs`);
    return ((await response.json()) as { jobs: { id: string }[] }).jobs.map(({ id }) => id);
  };
  for (const app of [first, second, third])
    await vi.waitFor(async () => expect((await listed(app)).toSorted()).toEqual(ids.toSorted()), 10_000);
});

it('replicas divide requestsPerSecond among them', async () => {
  const waits: number[] = [];
  const pace = (sharers: number): RequestPace =>
    new RequestPace({
      upstream: 'hub',
      rates: { blob: 10 },
      longestWaitMs: 60_000,
      pause: (ms) => Promise.resolve(void waits.push(ms)),
      sharers: () => sharers,
      events: new Events(collectingLogger()),
      now: () => 0,
    });
  // Alone: a burst of ten, then one each 100 ms. One of four: some of the burst, then one each 400 ms.
  for (const [sharers, expected] of [
    [1, [100, 200, 300]],
    [4, [200, 600, 1000]],
  ] as const) {
    const shared = pace(sharers);
    for (let sent = 0; sent < (sharers === 1 ? 10 : 2); sent++) await shared.admit('blob', undefined);
    waits.length = 0;
    for (let sent = 0; sent < 3; sent++) await shared.admit('blob', undefined);
    expect(waits).toEqual(expected);
  }
});
