import { beforeAll, beforeEach, describe, expect, it } from 'vitest';

import { Secret } from '../../src/core/secret.ts';
import { HeldLease } from '../../src/replicas/held-lease.ts';
import type { LeaseState } from '../../src/replicas/leases.ts';
import { encodeMember, memberId } from '../../src/replicas/member.ts';
import { PeerSeal } from '../../src/replicas/peer-seal.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { BlobPull } from '../helpers/clients/blob-pull.ts';
import { randomBlob } from '../helpers/layers/random-blob.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { connectReplica, LEASE_PREFIX, type LeaseReplica, leasesOf } from '../helpers/lease-replica.ts';
import { MEMBERS_KEY, openMembers, seenUrls } from '../helpers/open-members.ts';
import { REPLICA_TOKEN, startReplicas } from '../helpers/replica-set.ts';
import type { RunningApp } from '../helpers/running-app.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { seededRandom } from '../helpers/seeded-random.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { ScriptedRegistry } from '../registry/scripted-registry.ts';

const NAME = 'blob:up:sha256:1';
const KEY = LEASE_PREFIX + NAME;
const WAIT = { timeout: 20_000, interval: 50 };
const [FIRST, SECOND] = ['http://10.0.0.1:5000', 'http://10.0.0.2:5000'];
const SEED = 20_261_129;
const ROUNDS = 100;

let redis: RedisServer;
let random: () => number;

beforeAll(async () => {
  redis = cleanup.use(await RedisServer.start());
});

beforeEach(async () => {
  random = seededRandom(SEED);
  await redis.command('FLUSHALL');
});

const pick = <T>(...values: readonly T[]): T => values[Math.floor(random() * values.length)] as T;

/** In quotes of an inline command. */
const quoted = (text: string): string =>
  `"${text.replaceAll(/[^ -~]|["\\]/g, (odd) => `\\x${odd.charCodeAt(0).toString(16).padStart(2, '0').slice(-2)}`)}"`;

function junk(): string {
  return pick(
    '',
    '0',
    '-1',
    '-0',
    '1.5',
    'nan',
    '-nan',
    'inf',
    '0x7fffffffffffffff',
    '9007199254740993',
    '9e99',
    '9'.repeat(400),
    '%s%d%n',
    '^(%d+) %f[',
    "'] redis.call('FLUSHALL') --",
    '\0\0',
    '\xff\xfe',
    '0123456789abcdef',
    '0123456789ABCDEF',
    'fedcba9876543210 0123456789abcdef',
    ' '.repeat(200),
    '0123456789abcdef '.repeat(50),
    'x'.repeat(5_000),
    '{"__proto__":1}',
    String(Date.now()),
    String(1_000 * Date.now()),
  );
}

/** Something that no replica writes to the key of a hash. */
async function spoil(key: string, fields: readonly string[]): Promise<string> {
  const values = fields
    .filter(() => random() < 0.7)
    .map((field) => `${quoted(pick(field, field, field, junk()))} ${quoted(junk())}`);
  const hash = `HSET ${key} a b ${values.join(' ')}`;
  const huge = `EVAL "redis.call('HSET', KEYS[1], ARGV[1], string.rep('9', 3000000))" 1 ${key} ${pick(...fields)}`;
  const command = pick(
    hash,
    hash,
    hash,
    huge,
    `SET ${key} ${quoted(junk())}`,
    `RPUSH ${key} ${quoted(junk())}`,
    `SADD ${key} ${quoted(junk())}`,
    `ZADD ${key} 1 a`,
    `XADD ${key} * a b`,
    `PEXPIRE ${key} 1`,
  );
  if (random() < 0.5) await redis.command(`DEL ${key}`);
  await redis.command(command);
  return command.slice(0, 300);
}

describe('who can write to Redis and has no token', () => {
  it('does not keep replicas from agreeing on a lease', async () => {
    const [one, other] = [await connectReplica(redis.url, 'one'), await connectReplica(redis.url, 'other')];
    /** As a fill does that finds none of the replicas that Redis names. */
    const take = async ({ leases }: LeaseReplica, spoiled: string): Promise<LeaseState> => {
      const state = await leases.claim(NAME);
      const mine = state?.kind === 'mine' ? state : state && (await leases.takeOver(NAME, state, []));
      if (mine?.kind !== 'mine') throw new Error(`no lease after ${spoiled}: ${JSON.stringify(state)}`);
      return mine;
    };
    for (let round = 0; round < ROUNDS; round++) {
      const spoiled = await spoil(KEY, ['fence', 'worker', 'beat', 'holders']);
      const mine = await take(one, spoiled);
      const seen = await other.leases.claim(NAME);
      expect(seen, spoiled).toMatchObject({ kind: 'busy', worker: one.id, fence: mine.fence });
      expect(Number(mine.fence), spoiled).toBeLessThan(2 ** 53);
      expect(await one.leases.renew(NAME, mine.fence), spoiled).toBe(true);
      if (random() < 0.5) await spoil(KEY, ['fence', 'worker', 'beat', 'holders']);
      await one.leases.end(NAME, mine.fence, pick('done', 'undone'));
      // Each answer came from Redis: no replica takes it for lost.
      expect(await other.leases.look(NAME), spoiled).toBeDefined();
    }
  });

  it('makes no worker look alive that is not: a sign of life of the future is none', async () => {
    const { leases } = await connectReplica(redis.url, 'one');
    for (const beat of ['9007199254740993', 'inf', 'nan', '9e15', String(Date.now() + 3_600_000)]) {
      await redis.command(`HSET ${KEY} fence 5 worker 0123456789abcdef beat ${beat}`);
      expect((await leases.claim(NAME))?.kind, beat).toBe('mine');
      await redis.command(`DEL ${KEY}`);
    }
  });

  it('neither hides the replicas from each other nor adds one', async () => {
    const [one, other] = [await openMembers(redis), await openMembers(redis)];
    await one.join(FIRST);
    await other.join(SECOND);
    const fields = [memberId(FIRST), memberId(SECOND), '0123456789abcdef'];
    for (let round = 0; round < ROUNDS; round++) {
      const spoiled = await spoil(MEMBERS_KEY, fields);
      await one.look();
      await other.look();
      await one.look();
      expect(seenUrls(one), spoiled).toEqual([FIRST, SECOND]);
      expect(seenUrls(other), spoiled).toEqual([FIRST, SECOND]);
    }
  });

  it.each(['record', 'record of the future'])('does not crowd the replicas out with any %s', async (kind) => {
    const [one, other] = [await openMembers(redis), await openMembers(redis)];
    await one.join(FIRST);
    await other.join(SECOND);
    const at = kind === 'record' ? '' : `9${'0'.repeat(14)} `;
    for (const count of [3_000, 30_000]) {
      const script = `for i = 1, ${count} do redis.call('HSET', KEYS[1], i, ARGV[1] .. string.rep('x', 1000)) end`;
      await redis.command(`EVAL "${script}" 1 ${MEMBERS_KEY} "${at}"`);
      await one.look();
      await other.look();
      await one.look();
      expect(seenUrls(one)).toEqual([FIRST, SECOND]);
      expect(Number(/\d+/.exec(await redis.command(`HLEN ${MEMBERS_KEY}`)))).toBe(2);
    }
  });

  it('does not make a replica say that another has its URL', async () => {
    const events = new Events(collectingLogger());
    const one = await openMembers(redis, { events });
    await one.join(FIRST);
    const seal = new PeerSeal(new Secret(REPLICA_TOKEN));
    const another = { id: '', url: SECOND, boot: 'b', sinceMs: 0, atMs: Date.now(), leases: 0 };
    const record = quoted(`${Date.now()} ${seal.close('member', encodeMember(another))}`);
    for (let round = 0; round < 10; round++) {
      await redis.command(`HSET ${MEMBERS_KEY} ${memberId(FIRST)} ${record}`);
      await one.look();
    }
    expect(events.replicas.conditions).toEqual([]);
  });
});

it('who spoils what replicas write, all the time, costs bytes at most: each fetches for itself', async () => {
  const registry = cleanup.use(await ScriptedRegistry.start());
  const replicas = await startReplicas(3, registry, redis);
  const blobs = await Promise.all(
    Array.from({ length: 4 }, async (_, place) => {
      const blob = randomBlob(2_500_000, place);
      return { blob, digest: await registry.addBlob('app', Uint8Array.from(blob)) };
    }),
  );
  let isOver = false;
  let spoiled = 0;
  const spoiling = (async (): Promise<void> => {
    while (!isOver) {
      const reply = await redis.command('KEYS spandrel:1:*');
      const keys = reply.split('\r\n').filter((line) => line.startsWith('spandrel:1:'));
      for (const key of keys) {
        await spoil(key, ['fence', 'worker', 'beat', 'holders', ...replicas.map(({ url }) => memberId(url))]);
        spoiled++;
      }
    }
  })();
  registry.requests.clear();
  const pulls = blobs.flatMap(({ blob, digest }) =>
    replicas.map(async (app) => (await new BlobPull(app, digest).bytes)?.equals(blob)),
  );
  for (const isRight of await Promise.all(pulls)) expect(isRight).toBe(true);
  isOver = true;
  await spoiling;
  expect(spoiled).toBeGreaterThan(0);
  const bytes = blobs.reduce((sum, { blob }) => sum + blob.byteLength, 0);
  expect(registry.requests.bytesSent / bytes).toBeLessThanOrEqual(1.1 * replicas.length);
});

it('a lease that says that a live replica fetches, which does not, costs one request to it', async () => {
  const registry = cleanup.use(await ScriptedRegistry.start());
  const [one, accused] = (await startReplicas(2, registry, redis)) as [RunningApp, RunningApp];
  const blob = randomBlob(100_000, 1);
  const digest = await registry.addBlob('app', Uint8Array.from(blob));
  const { redis: cache } = await connectReplica(redis.url, accused.url);
  const { group } = new PeerSeal(new Secret(REPLICA_TOKEN));
  const leases = leasesOf(cache, memberId(accused.url), group);
  const name = `blob:up:${digest}`;
  // It shows signs of life until the test ends.
  const lease = new HeldLease(leases, name, (await leases.claim(name))?.fence ?? '');
  expect((await new BlobPull(one, digest).bytes)?.equals(blob)).toBe(true);
  expect(await one.metric('spandrel_replica_requests_total{outcome="absent"}')).toBe(1);
  await lease.end('undone');
});

it('two replicas that have the same replica.url say so', async () => {
  const events = new Events(collectingLogger());
  const [one, other] = [await openMembers(redis, { events }), await openMembers(redis)];
  await one.join(FIRST);
  await other.join(FIRST);
  for (let round = 0; round < 10; round++) {
    await other.look();
    await one.look();
  }
  expect(events.replicas.conditions).toEqual([
    `replica.url: another replica has ${FIRST} too: neither can be asked for anything`,
  ]);
});

it('replicas with the old token and those with the new one agree apart, on the same blobs', async () => {
  const [old, renewed] = [REPLICA_TOKEN, makeSecret('new token')].map(
    (token) => new PeerSeal(new Secret(token)).group,
  );
  expect(old).not.toBe(renewed);
  expect(new PeerSeal(new Secret(REPLICA_TOKEN)).group).toBe(old);
  const { redis: cache, id } = await connectReplica(redis.url, 'one');
  const other = await connectReplica(redis.url, 'other');
  expect((await leasesOf(cache, id, old).claim(NAME))?.kind).toBe('mine');
  expect((await leasesOf(other.redis, other.id, renewed).claim(NAME))?.kind).toBe('mine');
  expect((await leasesOf(other.redis, other.id, old).claim(NAME))?.worker).toBe(id);
});

it.each([-3_600_000, -20_000, 20_000, 3_600_000])(
  'a replica whose clock jumps by %d ms is asked if that is little, and again soon after it is right',
  async (jumpMs) => {
    let offMs = 0;
    const now = (): number => Date.now() + offMs;
    const [one, other] = [await openMembers(redis, { now }), await openMembers(redis)];
    await one.join(FIRST);
    await other.join(SECOND);
    const seen = async (): Promise<string[]> => {
      await one.look();
      await other.look();
      return [...seenUrls(one), ...seenUrls(other)];
    };
    const all = [FIRST, SECOND, FIRST, SECOND];
    await expect.poll(seen, WAIT).toEqual(all);
    offMs = jumpMs;
    await expect.poll(seen, WAIT).toEqual(Math.abs(jumpMs) < 30_000 ? all : [FIRST, SECOND]);
    offMs = 0;
    await expect.poll(seen, WAIT).toEqual(all);
  },
);
