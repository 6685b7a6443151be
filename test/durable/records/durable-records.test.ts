import { describe, expect, it } from 'vitest';

import { MemoryCache } from '../../../src/cache/memory-cache.ts';
import { SpandrelError } from '../../../src/core/errors.ts';
import { Secret } from '../../../src/core/secret.ts';
import { DurableRecords, type DurableRecordsDeps } from '../../../src/durable/records/durable-records.ts';
import { RecordCache } from '../../../src/durable/records/record-cache.ts';
import { Events } from '../../../src/telemetry/events.ts';
import { cleanup } from '../../helpers/cleanup.ts';
import { collectingLogger } from '../../helpers/collected-output.ts';
import { MemoryObjects } from '../../helpers/upstreams/memory-objects.ts';

const events = new Events(collectingLogger());
const KEY = new Secret('0123456789abcdef');
const DAY_MS = 24 * 3_600_000;
const LOST = new SpandrelError('UPSTREAM_UNREACHABLE', 'lost');

function openRecords(objects: MemoryObjects, options: Partial<DurableRecordsDeps> = {}): DurableRecords {
  const pauses = { firstMs: 1, longestMs: 1 };
  return cleanup.use(new DurableRecords({ objects, prefix: 'up/', pauses, events, ...options }));
}

async function textOf(records: { get: DurableRecords['get'] }, key: string): Promise<string | undefined> {
  const hit = await records.get(key);
  return hit && Buffer.from(hit.bytes).toString();
}

const written = (records: DurableRecords): Promise<void> => expect.poll(() => records.queued).toBe(0);

describe('records in the durable tier', () => {
  it('are found at once, are written behind under speaking names, and outlive the process', async () => {
    const objects = new MemoryObjects();
    const records = openRecords(objects);
    await records.set('tag:1:hub/team/app:latest', Buffer.from('a'));
    expect(await textOf(records, 'tag:1:hub/team/app:latest')).toBe('a');
    await written(records);
    expect([...objects.objects.keys()]).toEqual(['up/records/tag/1/hub/team/app/latest']);
    expect(await textOf(openRecords(objects), 'tag:1:hub/team/app:latest')).toBe('a');
  });

  it('that change are replaced; the last value counts', async () => {
    const objects = new MemoryObjects();
    const records = openRecords(objects);
    for (const value of ['a', 'b', 'c']) await records.set('profile:1:hub/app', Buffer.from(value));
    expect(await textOf(records, 'profile:1:hub/app')).toBe('c');
    await written(records);
    expect(objects.objects.get('up/records/profile/1/hub/app')?.toString()).toBe('c');
  });

  it('that have not changed are written once a week', async () => {
    const objects = new MemoryObjects();
    let now = 0;
    const records = openRecords(objects, { now: () => now });
    for (let count = 0; count < 5; count++) {
      await records.set('origin:2:x', Buffer.from('same'));
      await written(records);
    }
    expect(objects.asked).toHaveLength(1);
    now = 8 * DAY_MS;
    await records.set('origin:2:x', Buffer.from('same'));
    await written(records);
    expect(objects.asked).toHaveLength(2);
  });

  it.each(['boot:1:x', `manifest:sha256:${'a'.repeat(64)}`])(
    'of old age are written again when they are read: no rule deletes what is in use (%s)',
    async (key) => {
      const objects = new MemoryObjects();
      const first = openRecords(objects, { key: KEY });
      await first.set(key, Buffer.from('value'));
      await written(first);
      const writes = (): number => objects.asked.filter((request) => request.startsWith('write')).length;
      objects.nowMs = 6 * DAY_MS;
      const young = openRecords(objects, { key: KEY });
      expect(await textOf(young, key)).toBe('value');
      // What was read is known: the same need not be written.
      await young.set(key, Buffer.from('value'));
      await written(young);
      expect(writes()).toBe(1);
      objects.nowMs = 100 * DAY_MS;
      const old = openRecords(objects, { key: KEY });
      for (let read = 0; read < 3; read++) expect(await textOf(old, key)).toBe('value');
      await written(old);
      expect(writes()).toBe(2);
      expect(await textOf(openRecords(objects, { key: KEY }), key)).toBe('value');
    },
  );

  it('that a replica uses from its disk are kept: once a week it writes what is old or gone', async () => {
    const objects = new MemoryObjects();
    let now = 0;
    const records = openRecords(objects, { now: () => now });
    let made = 0;
    const keep = async (): Promise<void> => {
      for (let use = 0; use < 5; use++)
        records.keep('boot:1:x', async () => {
          made++;
          return Promise.resolve(Buffer.from('recipe'));
        });
      await written(records);
    };
    const name = 'up/records/boot/1/x';
    await keep();
    expect(objects.objects.get(name)?.toString()).toBe('recipe');
    await keep();
    expect(objects.asked).toEqual([`stat ${name}`, `write ${name}`]);
    now = 8 * DAY_MS;
    objects.nowMs = 6 * DAY_MS;
    await keep();
    expect(made).toBe(1);
    now = 16 * DAY_MS;
    objects.nowMs = 100 * DAY_MS;
    await keep();
    expect(made).toBe(2);
    now = 24 * DAY_MS;
    objects.objects.clear();
    await keep();
    expect(objects.objects.get(name)?.toString()).toBe('recipe');
  });

  it('that are missing are not looked for again for a while', async () => {
    const objects = new MemoryObjects();
    let now = 0;
    const records = openRecords(objects, { now: () => now });
    for (let count = 0; count < 5; count++) expect(await textOf(records, 'boot:1:x')).toBeUndefined();
    expect(objects.asked).toHaveLength(1);
    objects.objects.set('up/records/boot/1/x', Buffer.from('of another replica'));
    now = 11_000;
    expect(await textOf(records, 'boot:1:x')).toBe('of another replica');
  });

  it('that are deleted are gone, also if they waited to be written', async () => {
    const objects = new MemoryObjects();
    const records = openRecords(objects);
    await records.set('tar:1:x', Buffer.from('wrong'));
    await records.delete('tar:1:x');
    expect(await textOf(records, 'tar:1:x')).toBeUndefined();
    await written(records);
    expect(objects.objects.size).toBe(0);
  });

  it('are misses while the store fails, and are written when it is back', async () => {
    const objects = new MemoryObjects();
    objects.fault = LOST;
    const records = openRecords(objects);
    expect(await textOf(records, 'other')).toBeUndefined();
    await records.set('layer-index:5:x', Buffer.from('index'));
    expect(await textOf(records, 'layer-index:5:x')).toBe('index');
    await expect.poll(() => objects.asked.length).toBeGreaterThan(4);
    objects.fault = undefined;
    await written(records);
    expect(objects.objects.get('up/records/layer-index/5/x')?.toString()).toBe('index');
  });

  it('with a key are sealed: without it, or moved or changed, they are misses', async () => {
    const objects = new MemoryObjects();
    const records = openRecords(objects, { key: KEY });
    await records.set('origin:2:x', Buffer.from('value'));
    await written(records);
    const sealed = objects.objects.get('up/records/origin/2/x') ?? Buffer.alloc(0);
    objects.objects.set('up/records/origin/2/moved', sealed);
    objects.objects.set('up/records/origin/2/changed', Buffer.concat([sealed, Buffer.from('!')]));
    objects.objects.set('up/records/origin/2/plain', Buffer.from('value'));
    const reader = openRecords(objects, { key: KEY });
    expect(await textOf(reader, 'origin:2:x')).toBe('value');
    for (const key of ['moved', 'changed', 'plain'])
      expect(await textOf(reader, `origin:2:${key}`)).toBeUndefined();
  });

  it('of manifests are stored as they are, under their digest', async () => {
    const objects = new MemoryObjects();
    const records = openRecords(objects, { key: KEY });
    await records.set(`manifest:sha256:${'a'.repeat(64)}`, Buffer.from('{}'));
    await written(records);
    expect(objects.objects.get(`up/manifest/sha256/${'a'.repeat(64)}`)?.toString()).toBe('{}');
  });
});

describe('records in Redis and in the durable tier', () => {
  const cacheOf = (isAuthentic: boolean): MemoryCache => {
    const cache = new MemoryCache({ maxBytes: 1000, events });
    return Object.defineProperty(cache, 'isAuthentic', { value: isAuthentic });
  };

  it('are read from Redis, and outlive it', async () => {
    const objects = new MemoryObjects();
    const [redis, durable] = [cacheOf(true), openRecords(objects)];
    const records = new RecordCache({ redis, durable });
    await records.set('x', Buffer.from('value'));
    await written(durable);
    expect(await textOf(records, 'x')).toBe('value');
    expect(objects.asked).toEqual(['write up/records/x']);
    await redis.delete('x');
    expect(await textOf(records, 'x')).toBe('value');
    expect(await textOf(redis, 'x')).toBe('value');
    await records.delete('x');
    expect(await textOf(records, 'x')).toBeUndefined();
  });

  it('are neither read from nor written to a Redis that anybody can write to', async () => {
    const objects = new MemoryObjects();
    const [redis, durable] = [cacheOf(false), openRecords(objects)];
    const records = new RecordCache({ redis, durable });
    await redis.set('x', Buffer.from('forged'));
    expect(await textOf(records, 'x')).toBeUndefined();
    await records.set('y', Buffer.from('value'));
    expect(await redis.get('y')).toBeUndefined();
    expect(records.isAuthentic).toBe(true);
  });
});
