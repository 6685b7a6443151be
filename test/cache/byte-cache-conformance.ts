import { randomBytes } from 'node:crypto';

import { describe, expect, it } from 'vitest';

import type { ByteCache } from '../../src/cache/byte-cache.ts';

/** What every byte cache does; run by the test of each. */
export function describeByteCache(name: string, open: () => ByteCache): void {
  describe(`${name} as a byte cache`, () => {
    it('misses what it was never given', async () => {
      expect(await open().get('nothing')).toBeUndefined();
    });

    it('gives back the bytes, whatever they are', async () => {
      const cache = open();
      const every = Uint8Array.from({ length: 256 }, (_, byte) => byte);
      for (const [key, bytes] of [
        ['every', every],
        ['empty', new Uint8Array(0)],
        ['large', randomBytes(300_000)],
      ] as const) {
        await cache.set(key, bytes);
        const hit = await cache.get(key);
        expect(Buffer.from(hit?.bytes ?? [1]).equals(bytes), key).toBe(true);
      }
    });

    it('stores a new value once, and says which one was first', async () => {
      const cache = open();
      expect(await cache.setNew('new', Buffer.from('one'))).toBeUndefined();
      expect(Buffer.from((await cache.setNew('new', Buffer.from('two')))?.bytes ?? []).toString()).toBe(
        'one',
      );
      expect(Buffer.from((await cache.get('new'))?.bytes ?? []).toString()).toBe('one');
      await cache.delete('new');
      expect(await cache.setNew('new', Buffer.from('three'))).toBeUndefined();
    });

    it('keeps the last value of a key, and none after a delete', async () => {
      const cache = open();
      await cache.set('key', Buffer.from('one'));
      await cache.set('key', Buffer.from('two'));
      expect(Buffer.from((await cache.get('key'))?.bytes ?? []).toString()).toBe('two');
      await cache.delete('key');
      expect(await cache.get('key')).toBeUndefined();
    });
  });
}
