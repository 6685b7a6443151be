import { beforeEach, expect, it } from 'vitest';

import { digestOf } from '../../src/core/digest.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { BlobPull } from '../helpers/clients/blob-pull.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const WAIT = { timeout: 30_000, interval: 20 };

let redis: RedisServer;
let registry: ScriptedRegistry;
let seed = 0;

beforeEach(async () => {
  redis = cleanup.use(await RedisServer.start());
  registry = cleanup.use(await ScriptedRegistry.start());
});

/** Blobs that nobody has yet. */
async function addBlobs(...sizes: readonly number[]): Promise<readonly Buffer[]> {
  const blobs = sizes.map((bytes) => randomBlob(bytes, ++seed));
  for (const blob of blobs) await registry.addBlob('app', Uint8Array.from(blob));
  registry.requests.clear();
  return blobs;
}

async function pull(app: RunningApp, blob: Buffer): Promise<string> {
  const response = await fetch(`${app.url}/v2/up/app/blobs/${digestOf(blob)}`);
  const isRight = Buffer.from(await response.arrayBuffer()).equals(blob);
  const [, source] = /detail=(\w+)/.exec(response.headers.get('cache-status') ?? '') ?? [];
  return `${isRight ? 'right' : 'wrong'} from ${source}`;
}

/** Pulls all blobs from all replicas at once, twice. @returns what the upstream sent, in sizes of them */
async function burst(replicas: readonly RunningApp[], blobs: readonly Buffer[]): Promise<number> {
  const pulls = replicas.flatMap((app) => blobs.flatMap((blob) => [pull(app, blob), pull(app, blob)]));
  for (const pulled of await Promise.all(pulls)) expect(pulled).toMatch(/^right from (fill|peer|disk)$/);
  return registry.requests.bytesSent / blobs.reduce((sum, blob) => sum + blob.byteLength, 0);
}

it('a burst of cold pulls over three replicas costs the upstream each byte once', async () => {
  const replicas = await startReplicas(3, registry, redis);
  expect(await burst(replicas, await addBlobs(6_000_000, 2_000_000, 100_000))).toBeLessThanOrEqual(1.01);
  // Each replica keeps its own copy.
  for (const app of replicas) await expect.poll(() => app.metric('spandrel_replicas'), WAIT).toBe(3);
});

it('a replica without a blob gets it from one that has it, as no pull and no start', async () => {
  const [first, second] = (await startReplicas(2, registry, redis)) as [RunningApp, RunningApp];
  const [blob] = (await addBlobs(3_000_000)) as [Buffer];
  expect(await pull(first, blob)).toBe('right from fill');
  await expect.poll(() => pull(first, blob), WAIT).toBe('right from disk');
  registry.requests.clear();
  expect(await pull(second, blob)).toBe('right from peer');
  expect(registry.requests.bytesSent).toBe(0);
  expect(await second.metric('spandrel_served_bytes_total{source="peer"}')).toBe(blob.byteLength);
  const requests = 'spandrel_http_requests_total{route="replica",method="GET",status="206"}';
  expect(await first.metric(requests)).toBeGreaterThan(0);
  expect(await first.metric('spandrel_http_requests_total{route="blob",method="GET",status="206"}')).toBe(0);
});

it('blobs that another replica waits for hold up none that it has', async () => {
  const [first, second] = (await startReplicas(2, registry, redis)) as [RunningApp, RunningApp];
  const MIB = 2 ** 20;
  const sizes = Array.from({ length: 18 }, () => 3 * MIB);
  const [there, ...slow] = (await addBlobs(MIB, ...sizes)) as [Buffer, ...Buffer[]];
  expect(await pull(first, there)).toBe('right from fill');
  const { promise: until, resolve: release } = Promise.withResolvers<void>();
  // The first of three ranges of each blob arrives. The others keep connections between the replicas busy.
  registry.faults.set([
    { match: ({ range = '' }) => Number(/\d+/.exec(range)) >= MIB, action: { kind: 'hold', until } },
  ]);
  const pulls: BlobPull[] = [];
  for (const app of [first, second]) {
    const begun = slow.map((blob) => new BlobPull(app, digestOf(blob)));
    for (const started of begun) await expect.poll(() => started.receivedBytes, WAIT).toBe(MIB);
    pulls.push(...begun);
  }
  expect(await pull(second, there)).toBe('right from peer');
  release();
  for (const { bytes } of pulls) expect((await bytes)?.byteLength).toBe(3 * MIB);
  const bytes = MIB + 3 * MIB * slow.length;
  expect(registry.requests.bytesSent / bytes).toBeLessThanOrEqual(1.01);
});

it('a replica that has lost a blob is asked once, and another fetches it', async () => {
  const [first, second] = (await startReplicas(2, registry, redis)) as [RunningApp, RunningApp];
  const [blob] = (await addBlobs(3_000_000)) as [Buffer];
  expect(await pull(first, blob)).toBe('right from fill');
  const path = `/api/v1/blobs/${digestOf(blob)}`;
  await expect
    .poll(async () => (await fetch(first.adminUrl + path, { method: 'DELETE' })).status, WAIT)
    .toBe(204);
  expect(await pull(second, blob)).toBe('right from fill');
  expect(await second.metric('spandrel_replica_requests_total{outcome="absent"}')).toBe(1);
  expect(await pull(first, blob)).toBe('right from peer');
});

it('a repository without a blob ends no fetch of it, and hides no replica that has it', async () => {
  const [first, second, third] = (await startReplicas(3, registry, redis)) as [
    RunningApp,
    RunningApp,
    RunningApp,
  ];
  const [blob] = (await addBlobs(3_000_000)) as [Buffer];
  const { promise: until, resolve: release } = Promise.withResolvers<void>();
  const isLate = ({ path, range = '' }: { path: string; range?: string | undefined }): boolean =>
    path.includes('/app/blobs/') && Number(/\d+/.exec(range)) >= 2 ** 20;
  registry.faults.set([{ match: isLate, action: { kind: 'hold', until } }]);
  const fetching = pull(first, blob);
  // The first response has arrived by then.
  await registry.requests.waitFor(isLate);
  const strange = async (app: RunningApp): Promise<number> =>
    (await fetch(`${app.url}/v2/up/stranger/blobs/${digestOf(blob)}`)).status;
  expect(await strange(second)).toBe(404);
  release();
  expect(await fetching).toBe('right from fill');
  await expect.poll(() => pull(first, blob), WAIT).toBe('right from disk');
  expect(await strange(second)).toBe(404);
  expect(await second.metric('spandrel_replica_requests_total{outcome="denied"}')).toBe(2);
  expect(await pull(second, blob)).toBe('right from peer');
  expect(await pull(third, blob)).toBe('right from peer');
  expect(registry.requests.bytesSent / blob.byteLength).toBeLessThanOrEqual(1.01);
});

it('replicas go on alone when Redis dies, and work together again when it is back', async () => {
  const replicas = await startReplicas(3, registry, redis);
  const [blob] = (await addBlobs(4_000_000)) as [Buffer];
  const { promise: until, resolve: release } = Promise.withResolvers<void>();
  registry.faults.set([{ match: { method: 'GET', path: /blobs/ }, action: { kind: 'hold', until } }]);
  const begun = burst(replicas, [blob]);
  await registry.requests.waitFor(({ path }) => path.includes('/blobs/'));
  await redis.stop();
  release();
  expect(await begun).toBeLessThanOrEqual(3);
  expect(await burst(replicas, await addBlobs(2_000_000))).toBeLessThanOrEqual(3);
  // Each has noticed that Redis is away, so what it says then is news.
  for (const app of replicas) await expect.poll(() => app.metric('spandrel_replicas'), WAIT).toBe(0);
  await redis.resume();
  for (const app of replicas) await expect.poll(() => app.metric('spandrel_replicas'), WAIT).toBe(3);
  expect(await burst(replicas, await addBlobs(3_000_000, 1_000_000))).toBeLessThanOrEqual(1.01);
});
