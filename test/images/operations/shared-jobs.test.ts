import { expect, it } from 'vitest';

import type { ByteCache } from '../../../src/cache/byte-cache.ts';
import { steadyNow } from '../../../src/core/steady-now.ts';
import type { ImageJobView } from '../../../src/images/operations/image-job-view.ts';
import { SharedJobs } from '../../../src/images/operations/shared-jobs.ts';

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

/** Values of replicas, with what each key was set to last. */
function sharedBy(values: Map<string, Uint8Array>, isAuthentic = true): ByteCache {
  return {
    isAuthentic,
    get: async (key) => {
      const bytes = values.get(key);
      return bytes && { bytes, tier: 'redis' };
    },
    set: async (key, bytes) => void values.set(key, bytes),
    setNew: () => Promise.reject(new Error('jobs are set, not created')),
    delete: async (key) => void values.delete(key),
  };
}

/** Makes the only value older. */
function age(values: Map<string, Uint8Array>, ms: number): void {
  for (const [key, bytes] of values) {
    const value = JSON.parse(String(Buffer.from(bytes))) as { atMs: number };
    values.set(key, Buffer.from(JSON.stringify({ ...value, atMs: steadyNow() - ms })));
  }
}

it('a running job whose replica is silent has failed; an ended one stays as it is', async () => {
  const values = new Map<string, Uint8Array>();
  const jobs = new SharedJobs(sharedBy(values));
  await jobs.note(JOB);
  age(values, 10_000);
  expect(await jobs.find('one')).toEqual(JOB);
  age(values, 60_000);
  expect(await jobs.find('one')).toMatchObject({ state: 'failed', error: { code: 'SHUTTING_DOWN' } });
  await jobs.note({ ...JOB, state: 'done' });
  age(values, 60_000);
  expect(await jobs.find('one')).toMatchObject({ state: 'done' });
});

it('jobs are not shared where anybody could write them, and nonsense is no job', async () => {
  const values = new Map<string, Uint8Array>();
  const [open, jobs] = [new SharedJobs(sharedBy(values, false)), new SharedJobs(sharedBy(values))];
  await open.note(JOB);
  expect([values.size, open.isShared]).toEqual([0, false]);
  await jobs.note(JOB);
  expect(await open.find('one')).toBeUndefined();
  for (const key of values.keys()) values.set(key, Buffer.from('{'));
  expect(await jobs.find('one')).toBeUndefined();
});
