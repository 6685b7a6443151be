import { expect, it } from 'vitest';

import { cleanup } from '../helpers/cleanup.ts';
import { connectReplica, LEASE_PREFIX, leasesOf } from '../helpers/lease-replica.ts';
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
