import { createHmac, randomBytes } from 'node:crypto';

import { afterAll, describe, expect, it } from 'vitest';

import { RedisCache } from '../../src/cache/redis-cache.ts';
import { ValueSeal } from '../../src/cache/value-seal.ts';
import { Secret } from '../../src/core/secret.ts';
import { Events } from '../../src/telemetry/events.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { makeSecret } from '../helpers/secrets.ts';
import { describeByteCache } from './byte-cache-conformance.ts';

const KEY = makeSecret('shared key');

describe('ValueSeal', () => {
  const seal = new ValueSeal(new Secret(KEY));

  it('is HMAC-SHA-256 with a separate key for each name', async () => {
    for (const length of [0, 1, 1000, 100_000]) {
      const bytes = randomBytes(length);
      const key = createHmac('sha256', KEY).update('name').digest();
      const expected = Buffer.concat([createHmac('sha256', key).update(bytes).digest(), bytes]);
      const sealed = await seal.close('name', bytes);
      expect(sealed.equals(expected)).toBe(true);
      expect(Buffer.from((await seal.open('name', sealed)) ?? 'none').equals(bytes)).toBe(true);
    }
  });

  it('detects each changed bit, and another length, name or key', async () => {
    const sealed = await seal.close('name', Buffer.from('value'));
    for (let bit = 0; bit < sealed.byteLength * 8; bit++) {
      const changed = Buffer.from(sealed);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(await seal.open('name', changed)).toBeUndefined();
    }
    for (let length = 0; length < sealed.byteLength; length++)
      expect(await seal.open('name', sealed.subarray(0, length))).toBeUndefined();
    expect(await seal.open('name', Buffer.concat([sealed, Buffer.of(0)]))).toBeUndefined();
    expect(await seal.open('other', sealed)).toBeUndefined();
    expect(await new ValueSeal(new Secret(`${KEY}x`)).open('name', sealed)).toBeUndefined();
  });
});

describe('RedisCache with a key', async () => {
  const server = await RedisServer.start();
  const stack = new AsyncDisposableStack();
  stack.use(server);
  afterAll(() => stack.disposeAsync());
  const events = new Events(collectingLogger());
  const open = async (key: string | undefined): Promise<RedisCache> => {
    const cache = stack.use(
      new RedisCache({
        url: new Secret(server.url),
        cluster: false,
        ttlSeconds: 60,
        key: key === undefined ? undefined : new Secret(key),
        events,
      }),
    );
    await cache.connected();
    return cache;
  };
  const cache = await open(KEY);
  const errors = async (): Promise<number> =>
    Number(/redis_errors_total\{op="seal"\} (\d+)/.exec((await events.printMetrics()).text)?.[1] ?? 0);
  /** Names of the values of a key, of all groups. */
  const namesOf = async (key: string): Promise<string[]> =>
    (await server.command(`KEYS spandrel:1:*:${key}`)).match(/spandrel:\S+/g) ?? [];
  /** Puts a value that somebody else has written in the place of another one. */
  const replace = async (name: string, by: string | undefined): Promise<string> =>
    server.command(`COPY ${by} ${name} REPLACE`);

  describeByteCache('sealed RedisCache', () => cache);

  it.each([
    ['garbled', (name: string): Promise<unknown> => server.command(`SETRANGE ${name} 40 x`)],
    ['cut off', (name: string): Promise<unknown> => server.command(`SET ${name} short`)],
    [
      'moved from another name',
      async (name: string): Promise<unknown> => replace(name, (await namesOf('other'))[0]),
    ],
    [
      'of another key',
      async (name: string): Promise<unknown> => {
        await (await open(`${KEY}x`)).set('victim', Buffer.from('theirs'));
        return replace(
          name,
          (await namesOf('victim')).find((other) => other !== name),
        );
      },
    ],
  ])('treats a value that was %s as a miss, counts it and removes it', async (_what, spoil) => {
    await cache.set('other', Buffer.from('the value of other'));
    await cache.set('victim', Buffer.from('the value of victim'));
    const [name = ''] = await namesOf('victim');
    const before = await errors();
    await spoil(name);
    expect(await cache.get('victim')).toBeUndefined();
    expect(await errors()).toBe(before + 1);
    expect(await server.command(`EXISTS ${name}`)).toContain('0');
  });

  it('and one with another key do not see each other’s values, nor touch them', async () => {
    const other = await open(`${KEY}y`);
    await cache.set('victim', Buffer.from('ours'));
    await other.set('victim', Buffer.from('theirs'));
    const before = await errors();
    const read = async (from: RedisCache): Promise<string> =>
      Buffer.from((await from.get('victim'))?.bytes ?? []).toString();
    expect([await read(cache), await read(other), await errors()]).toEqual(['ours', 'theirs', before]);
  });

  it('and one without do not see each other’s values', async () => {
    const plain = await open(undefined);
    await cache.delete('victim');
    await plain.set('victim', Buffer.from('plain'));
    expect(await cache.get('victim')).toBeUndefined();
    await cache.set('victim', Buffer.from('sealed'));
    expect(Buffer.from((await plain.get('victim'))?.bytes ?? []).toString()).toBe('plain');
    expect([cache.isAuthentic, plain.isAuthentic]).toEqual([true, false]);
  });
});
