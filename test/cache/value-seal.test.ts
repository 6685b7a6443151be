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
  const NAME = 'spandrel:1:sealed:victim';

  describeByteCache('sealed RedisCache', () => cache);

  it.each([
    ['garbled', (): Promise<unknown> => server.command(`SETRANGE ${NAME} 40 x`)],
    ['cut off', (): Promise<unknown> => server.command(`SET ${NAME} short`)],
    [
      'moved from another name',
      (): Promise<unknown> => server.command(`COPY spandrel:1:sealed:other ${NAME} REPLACE`),
    ],
    [
      'of another key',
      async (): Promise<unknown> => (await open(`${KEY}x`)).set('victim', Buffer.from('theirs')),
    ],
  ])('treats a value that was %s as a miss, counts it and removes it', async (_what, spoil) => {
    await cache.set('other', Buffer.from('the value of other'));
    await cache.set('victim', Buffer.from('the value of victim'));
    const before = await errors();
    await spoil();
    expect(await cache.get('victim')).toBeUndefined();
    expect(await errors()).toBe(before + 1);
    expect(await server.command(`EXISTS ${NAME}`)).toContain('0');
  });

  it('and one without do not see each other’s values', async () => {
    const plain = await open(undefined);
    await plain.set('victim', Buffer.from('plain'));
    expect(await cache.get('victim')).toBeUndefined();
    await cache.set('victim', Buffer.from('sealed'));
    expect(Buffer.from((await plain.get('victim'))?.bytes ?? []).toString()).toBe('plain');
    expect([cache.isAuthentic, plain.isAuthentic]).toEqual([true, false]);
  });
});
