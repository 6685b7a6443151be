import { beforeAll, describe, expect, it } from 'vitest';

import { RedisCache } from '../../src/cache/redis-cache.ts';
import { Secret } from '../../src/core/secret.ts';
import { Events } from '../../src/telemetry/events.ts';
import { cleanup } from '../helpers/cleanup.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { Link } from '../helpers/faults/link.ts';
import { openCache } from '../helpers/open-cache.ts';
import { RedisServer } from '../helpers/upstreams/redis-server.ts';
import { describeByteCache } from './byte-cache-conformance.ts';

let server: RedisServer;
let cache: RedisCache;
const events = new Events(collectingLogger());

function open(): RedisCache {
  return new RedisCache({
    url: new Secret(server.url),
    cluster: false,
    ttlSeconds: 60,
    events,
  });
}

beforeAll(async () => {
  server = cleanup.use(await RedisServer.start());
  cache = cleanup.use(open());
  await cache.connected();
});

describeByteCache('RedisCache', () => cache);

describe('RedisCache', () => {
  it('lets entries expire', async () => {
    await cache.set('expiring', Buffer.from('x'));
    await cache.setNew('new', Buffer.from('x'));
    for (const key of ['expiring', 'new']) {
      const ttl = Number(/:(\d+)/.exec(await server.command(`TTL spandrel:1:${key}`))?.[1]);
      expect(ttl).toBeGreaterThan(50);
      expect(ttl).toBeLessThanOrEqual(60);
    }
  });

  it('returns misses and counts errors when Redis dies, and works again when it is back', async () => {
    await cache.set('key', Buffer.from('x'));
    await server.stop();
    expect(await cache.get('key')).toBeUndefined();
    await cache.set('key', Buffer.from('y'));
    expect(await cache.setNew('other', Buffer.from('y'))).toBeUndefined();
    await cache.delete('key');
    expect((await events.printMetrics()).text).toMatch(/spandrel_redis_errors_total\{op="get"\} [1-9]/);
    await server.resume();
    await expect.poll(() => cache.ready, { timeout: 20_000 }).toBe(true);
    await cache.set('key', Buffer.from('z'));
    expect(Buffer.from((await cache.get('key'))?.bytes ?? []).toString()).toBe('z');
  });

  it('opens a connection anew that the network has forgotten', async () => {
    const link = cleanup.use(await Link.start());
    link.lead(server.url);
    const linked = await openCache({ url: link.url.replace('http', 'redis') }, { deadConnectionMs: 1_500 });
    await linked.set('forgotten', Buffer.from('x'));
    const { connections } = link;
    link.forget();
    const get = async (): Promise<string> =>
      Buffer.from((await linked.get('forgotten'))?.bytes ?? []).toString();
    expect(await get()).toBe('');
    await expect.poll(get).toBe('x');
    expect(link.connections).toBeGreaterThan(connections);
  });

  it('waits once for a Redis that does not respond, and uses it again when it does', async () => {
    await cache.set('frozen', Buffer.from('x'));
    server.freeze();
    // Each would wait a second.
    for (let read = 0; read < 200; read++) expect(await cache.get('frozen')).toBeUndefined();
    server.thaw();
    await expect.poll(async () => (await cache.get('frozen'))?.tier, { timeout: 20_000 }).toBe('redis');
  });

  it('leaves a Redis alone that has become slow, and uses it again when it is quick', async () => {
    const link = cleanup.use(await Link.start());
    link.lead(server.url);
    const slow = await openCache({ url: `redis://127.0.0.1:${link.port}` }, { hasKey: false });
    await slow.set('slow', Buffer.from('x'));
    link.delayMs = 150;
    let waits = 0;
    while ((await slow.get('slow')) !== undefined) expect(++waits).toBeLessThan(20);
    expect(slow.fault).toMatch(/^(SLOW|SILENT)$/);
    // None of these waits.
    const reads = Array.from({ length: 200 }, () => slow.get('slow'));
    expect((await Promise.all(reads)).every((read) => read === undefined)).toBe(true);
    link.delayMs = 0;
    await expect.poll(async () => (await slow.get('slow'))?.tier, { timeout: 20_000 }).toBe('redis');
    expect(slow.fault).toBeUndefined();
  });
});
