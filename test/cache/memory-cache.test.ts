import { describe, expect, it } from 'vitest';

import { MemoryCache } from '../../src/cache/memory-cache.ts';
import { Events } from '../../src/telemetry/events.ts';
import { collectingLogger } from '../helpers/collected-output.ts';
import { describeByteCache } from './byte-cache-conformance.ts';

const KIB = 1024;

describeByteCache(
  'MemoryCache',
  () => new MemoryCache({ maxBytes: 2 ** 20, events: new Events(collectingLogger()) }),
);

describe('MemoryCache', () => {
  it('never holds more than its bound, and evicts the least recently used entry', async () => {
    const cache = new MemoryCache({ maxBytes: 100 * KIB, events: new Events(collectingLogger()) });
    for (let entry = 0; entry < 50; entry++) {
      await cache.set(`entry ${entry}`, new Uint8Array(10 * KIB));
      await cache.get('entry 0');
      expect(cache.sizeBytes).toBeLessThanOrEqual(100 * KIB);
    }
    expect(await cache.get('entry 0')).toBeDefined();
    expect(await cache.get('entry 1')).toBeUndefined();
    expect(await cache.get('entry 49')).toBeDefined();
  });

  it('does not keep a large buffer alive through a small view of it', async () => {
    const cache = new MemoryCache({ maxBytes: 100 * KIB, events: new Events(collectingLogger()) });
    await cache.set('view', new Uint8Array(1024 * KIB).subarray(0, 10));
    expect((await cache.get('view'))?.bytes.buffer.byteLength).toBe(10);
  });

  it('stores nothing larger than its bound, and nothing at all when it is off', async () => {
    const small = new MemoryCache({ maxBytes: KIB, events: new Events(collectingLogger()) });
    await small.set('large', new Uint8Array(2 * KIB));
    expect(await small.get('large')).toBeUndefined();
    const off = new MemoryCache({ maxBytes: 0, events: new Events(collectingLogger()) });
    await off.set('key', new Uint8Array(1));
    expect(await off.get('key')).toBeUndefined();
  });

  it('counts evictions', async () => {
    const events = new Events(collectingLogger());
    const cache = new MemoryCache({ maxBytes: 10 * KIB, events });
    for (let entry = 0; entry < 3; entry++) await cache.set(`entry ${entry}`, new Uint8Array(4 * KIB));
    const { text } = await events.printMetrics();
    expect(text).toContain('spandrel_cache_evictions_total{tier="memory"} 1');
    expect(text).toMatch(/spandrel_cache_bytes\{tier="memory"\} 8\d{3}/);
  });
});
