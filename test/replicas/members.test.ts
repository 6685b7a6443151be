import { beforeAll, beforeEach, expect, it } from 'vitest';

import { Secret } from '../../src/core/secret.ts';
import { encodeMember, memberId, parseMember } from '../../src/replicas/member.ts';
import type { Members } from '../../src/replicas/members.ts';
import { PeerSeal } from '../../src/replicas/peer-seal.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { MEMBERS_KEY as KEY, openMembers, seenUrls } from '../helpers/open-members.ts';
import { REPLICA_TOKEN as TOKEN } from '../helpers/replica-set.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';

const WAIT = { timeout: 20_000, interval: 50 };
const [FIRST, SECOND] = ['http://10.0.0.1:5000', 'http://10.0.0.2:5000'];

let redis: RedisServer;

beforeAll(async () => {
  redis = cleanup.use(await RedisServer.start());
});

beforeEach(async () => {
  await redis.command('FLUSHALL');
});

const open = (options?: Parameters<typeof openMembers>[1]): Promise<Members> => openMembers(redis, options);

it('replicas find each other, and do not find one that has withdrawn', async () => {
  const [one, other] = [await open(), await open()];
  await one.join(FIRST);
  await other.join(SECOND);
  expect(seenUrls(other)).toEqual([FIRST, SECOND]);
  expect(await one.find(memberId(SECOND))).toMatchObject({ url: SECOND, leases: 3 });
  expect(await one.find(one.id)).toBeUndefined();
  await other.withdraw();
  await expect.poll(() => seenUrls(one), WAIT).toEqual([FIRST]);
  expect(await one.find(memberId(SECOND))).toBeUndefined();
});

it('a replica that has shown no sign of life for some seconds is forgotten', async () => {
  const one = await open();
  const seal = new PeerSeal(new Secret(TOKEN));
  const own = { id: '', url: SECOND, boot: 'b', sinceMs: 0, atMs: Date.now(), leases: 0 };
  const record = seal.close('member', encodeMember(own)).replaceAll('"', '\\"');
  const write = (ageMs: number): Promise<string> =>
    redis.command(`HSET ${KEY} ${memberId(SECOND)} "${Date.now() - ageMs} ${record}"`);
  await one.join(FIRST);
  const lookNow = async (): Promise<string[]> => {
    await write(0);
    await one.look();
    return seenUrls(one);
  };
  await expect.poll(lookNow, WAIT).toEqual([FIRST, SECOND]);
  await write(5_000);
  await expect.poll(() => seenUrls(one), WAIT).toEqual([FIRST]);
});

it('those that share something are not fewer because Redis has just lost them', async () => {
  let nowMs = 0;
  const one = await open({ nowMs: () => nowMs });
  await one.join(FIRST);
  {
    await using other = await open();
    await other.join(SECOND);
    await expect.poll(() => one.count, WAIT).toBe(2);
    await redis.command('FLUSHALL');
    await one.look();
    expect(one.count).toBe(2);
    await expect.poll(() => seenUrls(one), WAIT).toEqual([FIRST, SECOND]);
  }
  await one.look();
  expect([seenUrls(one), one.count]).toEqual([[FIRST], 2]);
  nowMs += 6_000;
  await one.look();
  expect(one.count).toBe(1);
});

it('nobody makes a replica by writing to Redis: not without the token, nor with an old record', async () => {
  const one = await open();
  await one.join(FIRST);
  const seal = new PeerSeal(new Secret(TOKEN));
  const member = (url: string, atMs: number): string =>
    seal.close('member', encodeMember({ id: '', url, boot: 'b', sinceMs: 0, atMs, leases: 0 }));
  const forged = new PeerSeal(new Secret(makeSecret('another token'))).close(
    'member',
    encodeMember({ id: '', url: 'http://10.6.6.6', boot: 'b', sinceMs: 0, atMs: Date.now(), leases: 0 }),
  );
  const now = Date.now();
  const records = {
    forged,
    old: member('http://10.6.6.7', now - 31_000),
    future: member('http://10.6.6.8', now + 60_000),
    'another purpose': seal.close('other', '{}'),
    path: member('http://10.6.6.9/path', now),
    credentials: member('http://user@10.6.6.9', now),
    protocol: member('file:///etc', now),
    long: member(`http://${'a'.repeat(3000)}`, now),
    nothing: '',
  };
  for (const [id, record] of Object.entries(records))
    await redis.command(`HSET ${KEY} "${id}" "${Date.now()} ${record.replaceAll('"', '\\"')}"`);
  await redis.command(`HSET ${KEY} garbage garbage`);
  // A right one is found, so all have been read.
  await redis.command(
    `HSET ${KEY} right "${Date.now() + 3_000} ${member(SECOND, now).replaceAll('"', '\\"')}"`,
  );
  await expect.poll(async () => (await one.find(memberId(SECOND)))?.url, WAIT).toBe(SECOND);
  expect(seenUrls(one)).toEqual([FIRST, SECOND]);
});

it('replicas with another token are not used, which is a condition that an operator sees', async () => {
  const events = new Events(collectingLogger());
  const [one, other] = [await open({ events }), await open({ token: makeSecret('another token') })];
  await one.join(FIRST);
  expect(events.replicas.conditions).toEqual([]);
  await other.join(SECOND);
  await one.look();
  expect([seenUrls(one), one.strangers]).toEqual([[FIRST], 1]);
  expect([seenUrls(other), other.strangers]).toEqual([[SECOND], 1]);
  expect(events.replicas.conditions).toEqual([expect.stringMatching(/^replica\.token: /)]);
});

it('anything but a whole member is none', () => {
  const right = { url: FIRST, boot: 'b', sinceMs: 1, atMs: 2, leases: 0 };
  expect(parseMember(JSON.stringify(right))).toMatchObject({ id: memberId(FIRST), url: FIRST });
  for (const wrong of [
    '',
    '{',
    'null',
    '[]',
    '1',
    ...Object.keys(right).flatMap((key) =>
      [undefined, null, -1, 1.5, '', {}, []].map((value) => JSON.stringify({ ...right, [key]: value })),
    ),
  ])
    if (wrong !== JSON.stringify({ ...right, boot: '' })) expect(parseMember(wrong), wrong).toBeUndefined();
});

it('a replica whose clock is wrong is not asked', async () => {
  const events = new Events(collectingLogger());
  const [one, late] = [await open({ events }), await open({ now: () => Date.now() - 60_000 })];
  await late.join(SECOND);
  await one.join(FIRST);
  expect(seenUrls(one)).toEqual([FIRST]);
  expect(events.replicas.conditions).toEqual([expect.stringContaining(`replica ${SECOND}`)]);
});

it('without Redis nobody is known to live, and with it again all are', async () => {
  const [one, other] = [await open(), await open()];
  await other.join(SECOND);
  await one.join(FIRST);
  await redis.stop();
  await expect.poll(() => seenUrls(one), WAIT).toEqual([]);
  await redis.resume();
  await expect.poll(() => seenUrls(one), WAIT).toEqual([FIRST, SECOND]);
});
