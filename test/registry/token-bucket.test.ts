import { describe, expect, it } from 'vitest';

import { TokenBucket } from './token-bucket.ts';
import { ManualClock } from '../helpers/manual-clock.ts';

describe('TokenBucket', () => {
  it('lets bytes flow at its rate', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(1_000_000, clock);
    const taken = [bucket.take(500_000), bucket.take(500_000), bucket.take(1_000_000)];
    // The first 20 ms are credit.
    expect(clock.sleepersMs).toEqual([480, 980, 1980]);
    clock.advance(1980);
    await Promise.all(taken);
  });

  it('makes up for timers that fire late, so that the average stays exact', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(1_000_000, clock);
    const begin = clock.now();
    for (let i = 0; i < 1000; i++) {
      const taken = bucket.take(16_384);
      // Each timer is up to 2 ms late.
      clock.advance(Math.max(0, ...clock.sleepersMs) + (i % 3));
      await taken;
    }
    const seconds = (clock.now() - begin) / 1000;
    expect((1000 * 16_384) / seconds / 1_000_000).toBeCloseTo(1, 2);
  });

  it('saves up no more than a moment when nobody takes', async () => {
    const clock = new ManualClock();
    const bucket = new TokenBucket(1_000_000, clock);
    clock.advance(60_000);
    await bucket.take(20_000);
    const next = bucket.take(100_000);
    expect(clock.sleepersMs).toEqual([100]);
    clock.advance(100);
    await next;
  });

  it('leaves a wait when the signal is aborted', async () => {
    const clock = new ManualClock();
    const aborter = new AbortController();
    const taken = new TokenBucket(1000, clock).take(5000, aborter.signal);
    aborter.abort(new Error('gone'));
    await expect(taken).rejects.toThrow('gone');
  });
});
