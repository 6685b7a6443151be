import { beforeAll, expect, it, vi } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { BlobPull } from '../helpers/clients/blob-pull.ts';
import { Link } from '../helpers/faults/link.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const MIB = 2 ** 20;
const BLOB_BYTES = 8 * MIB;
/**
 * Of a blob. A replica asks the registry for samples until it hears that another one has got the blob from
 * there, which takes a moment.
 */
const SAMPLES = 0.1;
/** The registry sends this much of a blob at once. */
const SENT_BYTES = 4 * MIB;
/** Less than a replica waits for the upstream of another one. */
const WAIT = { timeout: 25_000, interval: 20 };

interface Linked {
  readonly app: RunningApp;
  /** The way of the others to it. */
  readonly peers: Link;
  /** Its way to Redis. */
  readonly redis: Link;
}

let registry: ScriptedRegistry;
let seed = 0;
/** For each test replicas that share a Redis. */
const groups: (readonly Linked[])[] = [];

beforeAll(async () => {
  registry = cleanup.use(await ScriptedRegistry.start());
  for (const count of [2, 2, 3, 4]) groups.push(await startLinked(count));
  // The replicas end as they would in a whole network.
  cleanup.defer(() => {
    for (const { peers, redis } of groups.flat()) for (const link of [peers, redis]) link.open();
  });
});

async function startLinked(count: number): Promise<readonly Linked[]> {
  const redis = cleanup.use(await RedisServer.start());
  const started: Linked[] = [];
  while (started.length < count) {
    const [peers, toRedis] = [cleanup.use(await Link.start()), cleanup.use(await Link.start())];
    toRedis.lead(redis.url);
    const environment = {
      SPANDREL_REPLICA_URL: peers.url,
      SPANDREL_CACHE_REDIS_URL: toRedis.url.replace('http', 'redis'),
    };
    const isFollower = groups.length > 0 || started.length > 0;
    const [app] = (await startReplicas(1, registry, redis, { environment, isFollower })) as [RunningApp];
    peers.lead(app.url);
    started.push({ app, peers, redis: toRedis });
  }
  return started;
}

async function expectMembers(of: readonly Linked[], count: number): Promise<void> {
  for (const { app } of of)
    await vi.waitFor(async () => expect(await app.metric('spandrel_replicas')).toBe(count), WAIT);
}

/** Replicas that know each other. */
async function takeGroup(place: number): Promise<readonly Linked[]> {
  const linked = groups[place] ?? [];
  await expectMembers(linked, linked.length);
  return linked;
}

/** A cold blob, of which the registry sends half at first. */
interface Half {
  readonly digest: string;
  readonly blob: Buffer;
  /** From now on the registry sends what is requested. Earlier requests wait. */
  readonly pass: () => void;
  /** Ends their wait. */
  readonly release: () => void;
}

async function addHalf(): Promise<Half> {
  const blob = randomBlob(BLOB_BYTES, ++seed);
  const digest = await registry.addBlob('app', Uint8Array.from(blob));
  const { promise: until, resolve: release } = Promise.withResolvers<void>();
  let isPassing = false;
  registry.faults.add({
    match: ({ path, range = '' }) =>
      !isPassing && path.endsWith(digest) && Number(/\d+/.exec(range)) >= SENT_BYTES,
    action: { kind: 'hold', until },
  });
  return { digest, blob, release, pass: () => (isPassing = true) };
}

/** What the registry has sent of a blob, in its sizes. */
function sent({ digest }: Half): number {
  const requests = registry.requests.entries.filter(({ path }) => path.endsWith(digest));
  return requests.reduce((sum, { bytesSent }) => sum + bytesSent, 0) / BLOB_BYTES;
}

async function received(pull: BlobPull, bytes: number): Promise<void> {
  await vi.waitFor(() => expect(pull.receivedBytes).toBe(bytes), WAIT);
}

async function expectRight(pull: BlobPull, { blob }: Half): Promise<void> {
  await received(pull, BLOB_BYTES);
  expect((await pull.bytes)?.equals(blob)).toBe(true);
}

it.concurrent(
  'a replica that lives and cannot be reached any more is left in the middle of a body',
  async () => {
    const [owner, other] = (await takeGroup(0)) as [Linked, Linked];
    const half = await addHalf();
    const first = new BlobPull(owner.app, half.digest);
    await received(first, SENT_BYTES);
    const second = new BlobPull(other.app, half.digest);
    await received(second, SENT_BYTES);
    owner.peers.close();
    half.pass();
    // The owner still waits for the registry, and shows signs of life in Redis.
    await expectRight(second, half);
    expect(first.receivedBytes).toBe(SENT_BYTES);
    // What the other one had is not fetched again.
    expect(sent(half)).toBeLessThanOrEqual(1 + SAMPLES);
    half.release();
    await expectRight(first, half);
  },
);

it.concurrent('a replica that takes connections and sends nothing is left before its response', async () => {
  const [owner, other] = (await takeGroup(1)) as [Linked, Linked];
  owner.peers.close();
  const half = await addHalf();
  const first = new BlobPull(owner.app, half.digest);
  await received(first, SENT_BYTES);
  const second = new BlobPull(other.app, half.digest);
  await vi.waitFor(() => expect(owner.peers.connections).toBeGreaterThan(0), WAIT);
  half.pass();
  await expectRight(second, half);
  // The other direction is open: a blob that this one fetches comes from there.
  const next = await addHalf();
  next.pass();
  await expectRight(new BlobPull(other.app, next.digest), next);
  await expectRight(new BlobPull(owner.app, next.digest), next);
  expect(sent(next)).toBeLessThanOrEqual(1 + SAMPLES);
  half.release();
  await expectRight(first, half);
});

it.concurrent('a replica that Redis alone is cut off from goes on, as the others do without it', async () => {
  const all = (await takeGroup(2)) as [Linked, Linked, Linked];
  const [owner, ...others] = all;
  const half = await addHalf();
  const first = new BlobPull(owner.app, half.digest);
  await received(first, SENT_BYTES);
  const pulls = others.map(({ app }) => new BlobPull(app, half.digest));
  for (const pull of pulls) await received(pull, SENT_BYTES);
  owner.redis.close();
  half.pass();
  // The others hear nothing of the owner, in Redis or in bodies. One of them takes the lease.
  for (const pull of pulls) await expectRight(pull, half);
  half.release();
  await expectRight(first, half);
  expect(sent(half)).toBeLessThanOrEqual(2 + SAMPLES);
  await expectMembers([owner], 0);
  owner.redis.open();
  await expectMembers(all, 3);
  const next = await addHalf();
  next.pass();
  for (const { app } of all) await expectRight(new BlobPull(app, next.digest), next);
  expect(sent(next)).toBeLessThanOrEqual(1 + SAMPLES);
});

it.concurrent('replicas that reach Redis fetch once for all, those that do not each for itself', async () => {
  const all = await takeGroup(3);
  const [cut, connected] = [all.slice(0, 2), all.slice(2)];
  for (const { redis: link } of cut) link.close();
  await expectMembers(cut, 0);
  await expectMembers(connected, 2);
  const half = await addHalf();
  half.pass();
  await Promise.all(all.map(({ app }) => expectRight(new BlobPull(app, half.digest), half)));
  expect(sent(half)).toBeLessThanOrEqual(3 + SAMPLES);
});
