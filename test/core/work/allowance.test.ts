import { describe, expect, it } from 'vitest';

import { Allowance } from '../../../src/core/work/allowance.ts';

describe('an allowance', () => {
  it("admits one second's worth of requests at once, then spaces them evenly", () => {
    const allowance = new Allowance(4);
    expect(Array.from({ length: 7 }, () => allowance.take(5000, Infinity))).toEqual([
      0, 0, 0, 0, 250, 500, 750,
    ]);
    expect(allowance.take(5600, Infinity)).toBe(400);
    expect(allowance.take(60_000, Infinity)).toBe(0);
  });

  it('is divided among those who share it, also if a part is less than one request a second', () => {
    for (const [perSecond, sharers] of [
      [10, 4],
      [3, 7],
      [1, 40],
      [2, 2],
    ] as const) {
      const parts = Array.from({ length: sharers }, () => new Allowance(perSecond));
      // All of them have more to do than they may.
      const seconds = 200;
      let taken = 0;
      for (let nowMs = 0; nowMs <= seconds * 1000; nowMs += 50)
        for (const part of parts) if (part.take(nowMs, 0, sharers) !== undefined) taken++;
      // Each may begin with a burst, of one request at least.
      expect(taken).toBeLessThanOrEqual(perSecond * seconds + Math.max(perSecond, sharers) + sharers);
      expect(taken).toBeGreaterThanOrEqual(0.9 * perSecond * seconds);
    }
    expect(new Allowance(1).take(0, 0, 40)).toBe(0);
  });

  it('takes nothing for a request that would wait too long', () => {
    const allowance = new Allowance(1);
    expect(allowance.take(0, 0)).toBe(0);
    for (let request = 0; request < 100; request++) expect(allowance.take(0, 999)).toBeUndefined();
    expect(allowance.take(0, 1000)).toBe(1000);
  });
});
