import { beforeAll, beforeEach, expect, it } from 'vitest';

import type { RedisCache } from '../../../src/cache/redis-cache.ts';
import type { ImageJobView } from '../../../src/images/operations/image-job-view.ts';
import { SharedJobs } from '../../../src/images/operations/shared-jobs.ts';
import { ageNotes } from '../../helpers/age-notes.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { openCache } from '../../helpers/open-cache.ts';
import { RedisServer } from '../../helpers/upstreams/redis-server.ts';

const JOB: ImageJobView = {
  id: 'one',
  kind: 'warm',
  image: 'hub/app:1',
  state: 'running',
  createdAt: '2026-01-01T00:00:00.000Z',
  platforms: [],
  images: [],
  layers: [],
};

let server: RedisServer;
let redis: RedisCache;

beforeAll(async () => {
  server = cleanup.use(await RedisServer.start());
});

beforeEach(async () => {
  await server.command('FLUSHALL');
  redis = await openCache(server);
});

const age = (ms: number): Promise<void> => ageNotes(server, '*job:1:one', ms);

it('a running job whose replica is silent has failed; an ended one stays as it is', async () => {
  const jobs = new SharedJobs(redis);
  await jobs.note(JOB);
  await age(10_000);
  expect(await jobs.find('one')).toEqual(JOB);
  await age(60_000);
  expect(await jobs.find('one')).toMatchObject({ state: 'failed', error: { code: 'SHUTTING_DOWN' } });
  await jobs.note({ ...JOB, state: 'done' });
  await age(60_000);
  expect(await jobs.find('one')).toMatchObject({ state: 'done' });
});

it('jobs are not shared where anybody could write them, and nonsense is no job', async () => {
  const [open, jobs] = [new SharedJobs(await openCache(server, { hasKey: false })), new SharedJobs(redis)];
  await open.note(JOB);
  expect([await server.command('DBSIZE'), open.isShared]).toEqual([expect.stringContaining(':0'), false]);
  await jobs.note(JOB);
  expect(await open.find('one')).toBeUndefined();
  const [name = ''] = (await server.command('KEYS *job:1:one')).match(/spandrel:\S+/) ?? [];
  for (const value of ['{', '1', '1 x', '9999999999999999 x']) {
    await server.command(`SET ${name} "${value}"`);
    expect([value, await jobs.find('one')]).toEqual([value, undefined]);
    await jobs.note(JOB);
    expect([value, await jobs.find('one')]).toEqual([value, JOB]);
  }
  // That of another job, sealed as it is, is none.
  await jobs.note({ ...JOB, id: 'two', state: 'done' });
  const [other = ''] = (await server.command('KEYS *job:1:two')).match(/spandrel:\S+/) ?? [];
  expect(await server.command(`COPY ${other} ${name} REPLACE`)).toContain('1');
  expect(await jobs.find('one')).toBeUndefined();
  await server.command(`DEL ${name}`);
  await server.command(`RPUSH ${name} 1`);
  expect(await jobs.find('one')).toBeUndefined();
  await jobs.note(JOB);
  expect(await jobs.find('one')).toEqual(JOB);
});

it('a replica that restarts lists the jobs that it had, as failed if they ran, once each', async () => {
  const replicas = { id: 'a', ids: ['a', 'b'] };
  const before = new SharedJobs(redis, replicas);
  await before.note(JOB);
  await before.note({ ...JOB, id: 'old', state: 'done' });
  await before.noteList(['one', 'old']);
  await age(60_000);
  const after = new SharedJobs(redis, replicas);
  await after.note({ ...JOB, id: 'new' });
  await after.noteList(['new']);
  const states = async (own: string[]): Promise<string[]> =>
    (await after.listOthers(new Set(own))).map(({ id, state }) => `${id} ${state}`);
  expect(await states(['new'])).toEqual(['one failed', 'old done']);
  expect(await states([])).toEqual(['new running', 'one failed', 'old done']);
});
