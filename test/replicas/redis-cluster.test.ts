import { expect, it } from 'vitest';

import { SharedNotes } from '../../src/cache/shared-notes.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { connectReplica, LEASE_PREFIX, leasesOf } from '../helpers/lease-replica.ts';
import { openCache } from '../helpers/open-cache.ts';
import { RedisCluster } from '../helpers/upstreams/redis-cluster.ts';

const WAIT = { timeout: 20_000, interval: 20 };

it('leases work in a Redis Cluster, while slots move and when a node dies', async () => {
  const cluster = cleanup.use(await RedisCluster.start());
  const [one, other] = [
    await connectReplica(cluster.url, 'one', true),
    await connectReplica(cluster.url, 'other', true),
  ];
  // Some on each node.
  const names = Array.from({ length: 6 }, (_, place) => `blob:up:sha256:${place}`);
  const fences = await Promise.all(names.map(async (name) => (await one.leases.claim(name))?.fence ?? ''));
  for (const [place, name] of names.entries()) {
    if (place < 2) await cluster.moveSlot(LEASE_PREFIX + name);
    expect(await other.leases.claim(name)).toMatchObject({ kind: 'busy', worker: one.id });
    expect(await one.leases.renew(name, fences[place] ?? '')).toBe(true);
  }
  await cluster.failOver();
  for (const [place, name] of names.entries()) {
    const renewed = async (): Promise<boolean | undefined> => {
      await one.redis.responds();
      return leasesOf(one.redis, one.id).renew(name, fences[place] ?? '');
    };
    await expect.poll(renewed, WAIT).toBe(true);
  }
}, 30_000);

it('notes are right while their slot moves, and a node that dies takes only its own with it', async () => {
  const cluster = cleanup.use(await RedisCluster.start());
  const options = { hasKey: false, cluster: true };
  const caches = [await openCache(cluster, options), await openCache(cluster, options)];
  const [mine, theirs] = caches.map((cache) => new SharedNotes(cache, { prefix: 'note:' }));
  let last = 0;
  /** What one replica notes is what the other finds; `undefined` if neither can. */
  const share = async (key: string): Promise<unknown> => {
    const value = ++last;
    await mine?.note(key, { value });
    const found = (await theirs?.find(key))?.fields['value'];
    return found === undefined ? undefined : found === value;
  };
  const shareAll = async (keys: readonly string[]): Promise<Set<unknown>> =>
    new Set(await Promise.all(keys.map(share)));
  const inSlot = ['{slot}:moved', '{slot}:later'];
  await expect.poll(() => share('{slot}:moved'), WAIT).toBe(true);
  await cluster.moveSlot('spandrel:1:note:{slot}:moved', async () => {
    for (let times = 0; times < 5; times++)
      await expect.poll(() => shareAll(inSlot), WAIT).toEqual(new Set([true]));
  });
  await expect.poll(() => shareAll(inSlot), WAIT).toEqual(new Set([true]));

  for (const node of cluster.nodes) await node.command('CONFIG SET cluster-require-full-coverage no');
  const [, , dying] = cluster.nodes;
  await dying?.stop();
  const keys = Array.from({ length: 24 }, (_, place) => `key ${place}`);
  await expect.poll(() => shareAll(keys), WAIT).toEqual(new Set([true, undefined]));
  await dying?.resume();
  await expect.poll(() => shareAll(keys), WAIT).toEqual(new Set([true]));
}, 40_000);
