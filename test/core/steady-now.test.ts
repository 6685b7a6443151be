import { afterEach, expect, it, vi } from 'vitest';

import { steadyNow, storedAgeMs } from '../../src/core/steady-now.ts';

const DAY_MS = 24 * 3_600_000;

afterEach(() => vi.useRealTimers());

it('is the time of day, and never jumps when the clock is set', () => {
  const before = steadyNow();
  expect(Number.isInteger(before)).toBe(true);
  expect(Math.abs(before - Date.now())).toBeLessThan(DAY_MS);
  for (const days of [-10_000, 10_000]) {
    vi.useFakeTimers({ toFake: ['Date'], now: Date.now() + days * DAY_MS });
    expect(steadyNow()).toBeGreaterThanOrEqual(before);
    expect(steadyNow() - before).toBeLessThan(DAY_MS);
  }
});

it.each([
  [1000, 1000, 0],
  [1000, 5000, 4000],
  [5000, 4999, Infinity],
  [Number.MAX_SAFE_INTEGER, 5000, Infinity],
])('an entry stored at %d has, at %d, an age of %d ms', (storedAtMs, nowMs, expected) => {
  expect(storedAgeMs(storedAtMs, nowMs)).toBe(expected);
});
