import { expect, it } from 'vitest';

import { ByteRate } from '../../../src/durable/writes/byte-rate.ts';
import { ManualClock } from '../../helpers/manual-clock.ts';

const never = new AbortController().signal;

it.each([
  [1_000_000, 64 * 1024 * 1024],
  [8 * 2 ** 20, 64 * 2 ** 20],
])('parts of %d bytes are written at %d bytes per second, whoever writes them', async (part, perSecond) => {
  const clock = new ManualClock({ runs: true });
  const rate = new ByteRate(perSecond, clock);
  const start = clock.now();
  let written = 0;
  const write = async (): Promise<void> => {
    for (let count = 0; count < 50; count++) {
      await rate.admit(part, never);
      written += part;
      // The first part needs no wait.
      const seconds = (clock.now() - start) / 1000;
      expect(written).toBeLessThanOrEqual(perSecond * seconds + part + 1);
    }
  };
  await Promise.all([write(), write(), write()]);
  expect((clock.now() - start) / 1000).toBeCloseTo((149 * part) / perSecond, 3);
});

it('time in which nothing is written is not saved up', async () => {
  const clock = new ManualClock();
  const rate = new ByteRate(1_000, clock);
  await rate.admit(500, never);
  clock.advance(3_600_000);
  await rate.admit(500, never);
  void rate.admit(500, never);
  expect(clock.sleepersMs).toEqual([500]);
});

it('without a limit nobody waits', async () => {
  const clock = new ManualClock();
  const rate = new ByteRate(0, clock);
  for (let count = 0; count < 100; count++) await rate.admit(2 ** 30, never);
  expect(clock.sleepersMs).toEqual([]);
});

it('a wait ends with its signal', async () => {
  const rate = new ByteRate(1);
  await rate.admit(1_000_000, never);
  const ending = new AbortController();
  const waiting = rate.admit(1, ending.signal);
  ending.abort(new Error('enough'));
  await expect(waiting).rejects.toThrow('enough');
});
