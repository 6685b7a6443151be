import { expect, it } from 'vitest';

import { RateLimiter } from '../../../src/http/access/rate-limiter.ts';

it('admits so many requests a second, address by address', () => {
  let nowMs = 0;
  const limiter = new RateLimiter(3, () => nowMs);
  const admitted = (address: string): number => {
    let count = 0;
    for (let request = 0; request < 10; request++) {
      try {
        limiter.admit(address);
        count++;
      } catch (error) {
        expect(error).toMatchObject({ code: 'OVERLOADED' });
      }
    }
    return count;
  };
  expect(admitted('a')).toBe(3);
  expect(admitted('b')).toBe(3);
  nowMs += 1000;
  expect(admitted('a')).toBe(3);
  nowMs += 334;
  expect(admitted('a')).toBe(1);
  nowMs += 3_600_000;
  expect(admitted('a')).toBe(3);
});
