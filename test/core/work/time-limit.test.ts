import { describe, expect, it } from 'vitest';

import { TimeLimit } from '../../../src/core/work/time-limit.ts';
import { OwnedWaits } from '../../helpers/faults/owned-waits.ts';

describe('TimeLimit', () => {
  it('aborts with a TimeoutError when the time is over', async () => {
    using limit = new TimeLimit(1);
    await new Promise((resolve) => limit.signal.addEventListener('abort', resolve));
    expect(limit.isOver).toBe(true);
    expect(limit.signal.reason).toMatchObject({ name: 'TimeoutError', message: 'not within 1 ms' });
  });

  it('leaves no timer and does not abort after it is disposed of', () => {
    const waits = new OwnedWaits();
    const { signal } = waits.run(() => {
      using limit = new TimeLimit(100_000);
      expect(waits.timers()).toHaveLength(1);
      return limit;
    });
    expect([signal.aborted, waits.timers()]).toEqual([false, []]);
  });

  it('aborts with the signal that it is combined with, and with its reason', () => {
    using limit = new TimeLimit(100_000);
    const leaving = new AbortController();
    const either = limit.with(leaving.signal);
    leaving.abort(new Error('left'));
    expect([either.reason, limit.isOver, limit.with(undefined)]).toEqual([
      new Error('left'),
      false,
      limit.signal,
    ]);
  });
});
