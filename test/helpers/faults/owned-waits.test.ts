import { setTimeout as sleep } from 'node:timers/promises';

import { describe, expect, it } from 'vitest';

import { OwnedWaits } from './owned-waits.ts';

const LONG_MS = 100_000;

describe('OwnedWaits', () => {
  it('knows the timers that wait, and where they were made, and none that is over', async () => {
    const waits = new OwnedWaits();
    const fired = Promise.withResolvers<void>();
    const stopping = new AbortController();
    const timers = waits.run(() => {
      setTimeout(() => fired.resolve(), 1);
      void sleep(LONG_MS, undefined, { signal: stopping.signal }).catch(() => undefined);
      return [setTimeout(() => undefined, LONG_MS), setInterval(() => undefined, LONG_MS).unref()];
    });
    await fired.promise;
    expect(waits.timers()).toHaveLength(3);
    for (const place of waits.timers()) expect(place).toContain('owned-waits.test.ts');
    for (const timer of timers) clearTimeout(timer);
    expect(waits.timers()).toHaveLength(1);
    stopping.abort();
    await sleep(1);
    expect(waits.timers()).toEqual([]);
  });

  it('counts neither what others make, nor what they make of what was begun here', async () => {
    const [waits, others] = [new OwnedWaits(), new OwnedWaits()];
    const later = Promise.withResolvers<NodeJS.Timeout>();
    const early = setTimeout(() => undefined, LONG_MS);
    waits.run(() => setTimeout(() => later.resolve(setTimeout(() => undefined, LONG_MS)), 1));
    clearTimeout(early);
    const timer = await later.promise;
    expect([waits.timers().length, others.timers().length]).toEqual([1, 0]);
    clearTimeout(timer);
    expect(waits.timers()).toEqual([]);
  });

  it('knows signals that more and more listen to', () => {
    const waits = new OwnedWaits();
    const { signal } = new AbortController();
    waits.run(() => {
      for (let count = 0; count < 100; count++) {
        const listener = (): void => undefined;
        signal.addEventListener('abort', listener, { once: true });
        signal.removeEventListener('abort', listener);
      }
      expect(waits.crowdedSignals()).toEqual([]);
      for (let count = 0; count < 100; count++) signal.addEventListener('abort', () => undefined);
    });
    expect(waits.crowdedSignals()).toEqual([expect.stringMatching(/^100 listeners, .*owned-waits.test.ts/)]);
  });
});
