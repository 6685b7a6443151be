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

  it('takes nothing for a request that would wait too long', () => {
    const allowance = new Allowance(1);
    expect(allowance.take(0, 0)).toBe(0);
    for (let request = 0; request < 100; request++) expect(allowance.take(0, 999)).toBeUndefined();
    expect(allowance.take(0, 1000)).toBe(1000);
  });
});
