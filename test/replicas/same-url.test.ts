import { beforeEach, expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { BlobPull } from '../helpers/clients/blob-pull.ts';
import { Link } from '../helpers/faults/link.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const BLOB_BYTES = 3_000_000;
const WAIT = { timeout: 25_000, interval: 20 };

let redis: RedisServer;
let registry: ScriptedRegistry;
/** Leads to one of the replicas that have its URL. */
let link: Link;
let seed = 0;

beforeEach(async () => {
  redis = cleanup.use(await RedisServer.start());
  registry = cleanup.use(await ScriptedRegistry.start());
  link = cleanup.use(await Link.start());
});

async function start(url?: string, isFollower = true): Promise<RunningApp> {
  const environment = url === undefined ? {} : { SPANDREL_REPLICA_URL: url };
  const [app] = (await startReplicas(1, registry, redis, { environment, isFollower })) as [RunningApp];
  return app;
}

async function pullFromAll(replicas: readonly RunningApp[]): Promise<number> {
  const blob = randomBlob(BLOB_BYTES, ++seed);
  const digest = await registry.addBlob('app', Uint8Array.from(blob));
  registry.requests.clear();
  for (const pulled of await Promise.all(replicas.map((app) => new BlobPull(app, digest).bytes)))
    expect(pulled?.equals(blob)).toBe(true);
  return registry.requests.bytesSent / BLOB_BYTES;
}

it('two replicas with one URL cost bytes, and none is wrong, on them or on others', async () => {
  const first = await start(link.url, false);
  link.lead(first.url);
  const replicas = [first, await start(link.url), await start()];
  for (const app of replicas) await expect.poll(() => app.metric('spandrel_replicas'), WAIT).toBe(2);
  for (let round = 0; round < 3; round++)
    expect(await pullFromAll(replicas)).toBeLessThanOrEqual(replicas.length);
});

it('a replica that starts again under its URL holds nothing up that it did or promised before', async () => {
  const other = await start(undefined, false);
  const before = await start(link.url);
  link.lead(before.url);
  for (const app of [other, before]) await expect.poll(() => app.metric('spandrel_replicas'), WAIT).toBe(2);
  // It fetches half of a blob for all when it goes.
  const blob = randomBlob(BLOB_BYTES, ++seed);
  const digest = await registry.addBlob('app', Uint8Array.from(blob));
  const { promise: until, resolve: release } = Promise.withResolvers<void>();
  registry.faults.set([{ match: { path: /blobs/ }, action: { kind: 'hold', until }, times: 1 }]);
  const lost = new BlobPull(before, digest);
  await registry.requests.waitFor(({ path }) => path.endsWith(digest));
  const waiting = new BlobPull(other, digest);
  await expect.poll(() => link.connections, WAIT).toBeGreaterThan(0);
  link.cut();
  const after = await start(link.url);
  link.lead(after.url);
  registry.faults.clear();
  for (const pulled of [waiting, new BlobPull(after, digest)])
    expect((await pulled.bytes)?.equals(blob)).toBe(true);
  release();
  await lost.bytes;
  await before[Symbol.asyncDispose]();
  await expect.poll(() => other.metric('spandrel_replicas'), WAIT).toBe(2);
  expect(await pullFromAll([other, after])).toBeLessThanOrEqual(1.01);
});
