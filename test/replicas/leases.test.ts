import { describe, expect, it } from 'vitest';

import { HeldLease } from '../../src/replicas/held-lease.ts';
import { type LeaseState, parseLeaseState } from '../../src/replicas/leases.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { connectReplica, LEASE_PREFIX, type LeaseReplica } from '../helpers/lease-replica.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const NAME = 'blob:up:sha256:1';
const KEY = LEASE_PREFIX + NAME;
const WAIT = { timeout: 20_000, interval: 20 };

async function startReplicas(count: number): Promise<{ redis: RedisServer; replicas: LeaseReplica[] }> {
  const redis = cleanup.use(await RedisServer.start());
  const names = Array.from({ length: count }, (_, place) => `replica ${place}`);
  return { redis, replicas: await Promise.all(names.map((name) => connectReplica(redis.url, name))) };
}

function known<T>(value: T | undefined): T {
  if (value === undefined) throw new Error('Redis is away');
  return value;
}

describe('leases', () => {
  it('of fifty replicas that claim a lease at once one gets it, again and again', async () => {
    const { replicas } = await startReplicas(50);
    let fence = 0;
    for (let round = 0; round < 5; round++) {
      const states = await Promise.all(replicas.map(({ leases }) => leases.claim(NAME)));
      const winners = replicas.filter((_, place) => states[place]?.kind === 'mine');
      const [winner] = winners;
      expect(winners).toHaveLength(1);
      for (const state of states) expect(state?.worker).toBe(winner?.id);
      const next = Number(states.find((state) => state?.kind === 'mine')?.fence);
      expect(next).toBeGreaterThan(fence);
      fence = next;
      await winner?.leases.end(NAME, String(fence), 'undone');
    }
  });

  it('of many that take over a lease at once one gets it, and the one before learns that', async () => {
    const { replicas } = await startReplicas(20);
    const [holder, ...others] = replicas as [LeaseReplica, ...LeaseReplica[]];
    const held = known(await holder.leases.claim(NAME));
    const seen = await Promise.all(others.map(({ leases }) => leases.claim(NAME)));
    const taken = await Promise.all(
      others.map(({ leases }, place) => leases.takeOver(NAME, known(seen[place]), [holder.id])),
    );
    expect(taken.filter((state) => state?.kind === 'mine')).toHaveLength(1);
    expect(await holder.leases.renew(NAME, held.fence)).toBe(false);
  });

  it('random claims, takeovers and ends never leave two replicas with one fencing number', async () => {
    const { replicas } = await startReplicas(8);
    const random = seededRandom(7);
    const owners = new Map<string, string>();
    let last: LeaseState | undefined;
    const act = async ({ id, leases }: LeaseReplica, dice: number): Promise<void> => {
      const state =
        last === undefined || dice < 0.5 ? await leases.claim(NAME) : await leases.takeOver(NAME, last, []);
      last = state;
      if (state?.kind !== 'mine') return;
      expect(owners.get(state.fence) ?? id).toBe(id);
      owners.set(state.fence, id);
      if (dice > 0.3) await leases.end(NAME, state.fence, dice > 0.8 ? 'done' : 'undone');
    };
    for (let round = 0; round < 40; round++)
      await Promise.all(replicas.map((replica) => act(replica, random())));
    expect(owners.size).toBeGreaterThan(10);
  });

  it('those who have finished are remembered, the latest four, until they are gone', async () => {
    const { replicas } = await startReplicas(6);
    for (const { leases } of replicas) await leases.end(NAME, undefined, 'done');
    const asker = known(replicas[0]);
    const state = known(await asker.leases.claim(NAME));
    const latest = replicas.slice(2).map(({ id }) => id);
    expect(state).toMatchObject({ kind: 'done', worker: undefined, holders: latest });
    const taken = known(await asker.leases.takeOver(NAME, state, latest.slice(0, 3)));
    expect(taken).toMatchObject({ kind: 'mine', holders: latest.slice(3) });
  });

  it('a lease without a sign of life is free after a while, and a live one stays', async () => {
    const { redis, replicas } = await startReplicas(2);
    const [one, other] = replicas as [LeaseReplica, LeaseReplica];
    const { fence } = known(await one.leases.claim(NAME));
    const lease = new HeldLease(one.leases, NAME, fence);
    await expect.poll(async () => (await other.leases.look(NAME))?.silentMs, WAIT).toBeGreaterThan(100);
    await expect.poll(async () => (await other.leases.look(NAME))?.silentMs, WAIT).toBeLessThan(100);
    await lease.end('undone');
    expect((await other.leases.claim(NAME))?.kind).toBe('mine');
    expect((await one.leases.claim(NAME))?.kind).toBe('busy');
    await redis.command(`HSET ${KEY} beat 1`);
    expect((await one.leases.claim(NAME))?.kind).toBe('mine');
  });

  it('a lease whose record Redis has lost is written again by its holder', async () => {
    const { redis, replicas } = await startReplicas(2);
    const [one, other] = replicas as [LeaseReplica, LeaseReplica];
    const { fence } = known(await one.leases.claim(NAME));
    await redis.command('FLUSHALL');
    expect(await one.leases.renew(NAME, fence)).toBe(true);
    expect(await other.leases.claim(NAME)).toMatchObject({ kind: 'busy', worker: one.id, fence });
  });

  it('replies that no script sends are no state', () => {
    for (const reply of [
      null,
      1,
      'mine',
      [],
      ['mine'],
      ['other', '1', '', '0', ''],
      ['mine', 'x', '', '0', ''],
    ])
      expect(parseLeaseState(reply)).toBeUndefined();
    const odd = parseLeaseState(['busy', '1', 'no id', '5', 'x 0123456789abcdef ../..']);
    expect(odd).toMatchObject({ worker: undefined, holders: ['0123456789abcdef'] });
  });

  it('without Redis nobody waits, and when it is back the replicas agree again', async () => {
    const { redis, replicas } = await startReplicas(1);
    const { leases, redis: connection } = known(replicas[0]);
    await redis.stop();
    expect(await leases.claim(NAME)).toBeUndefined();
    await redis.resume();
    await expect.poll(() => connection.ready, WAIT).toBe(true);
    // As `Members` does regularly.
    const again = await connectReplica(redis.url, 'replica 0');
    expect((await again.leases.claim(NAME))?.kind).toBe('mine');
  });
});
