import { describe, expect, it } from 'vitest';

import { Memo } from '../../src/cache/memo.ts';
import { growingPauses, PassingFaults } from '../../src/cache/passing-faults.ts';
import { Events } from '../../src/telemetry/events.ts';
import { collectingLogger } from '../helpers/collected-output.ts';

function faultsAt(clock: { nowMs: number }): PassingFaults<{ attempt: number }> {
  return new PassingFaults({ firstMs: 100, longestMs: 350 }, () => clock.nowMs);
}

describe('a temporary fault', () => {
  it('is held for a pause that doubles while the subject keeps failing, up to the longest', () => {
    const clock = { nowMs: 0 };
    const faults = faultsAt(clock);
    const pauses: number[] = [];
    for (let attempt = 0; attempt < 5; attempt++) {
      faults.note('a', { attempt });
      const since = clock.nowMs;
      while (faults.current('a') !== undefined) clock.nowMs += 10;
      pauses.push(clock.nowMs - since);
    }
    expect(pauses).toEqual([100, 200, 350, 350, 350]);
  });

  it('is the last one after its pause, until an attempt succeeds', () => {
    const clock = { nowMs: 0 };
    const faults = faultsAt(clock);
    faults.note('a', { attempt: 1 });
    clock.nowMs = 1_000;
    expect([faults.current('a'), faults.last('a')]).toEqual([undefined, { attempt: 1 }]);
    faults.clear('a');
    expect(faults.last('a')).toBeUndefined();
  });

  it('starts with the first pause again after a long time without attempts, and after a success', () => {
    const clock = { nowMs: 0 };
    const faults = faultsAt(clock);
    for (const before of [() => (clock.nowMs += 10_000), () => faults.clear('a')]) {
      faults.note('a', { attempt: 1 });
      faults.note('a', { attempt: 2 });
      before();
      faults.note('a', { attempt: 3 });
      clock.nowMs += 100;
      expect(faults.current('a')).toBeUndefined();
    }
  });

  it('of one subject does not affect another', () => {
    const faults = faultsAt({ nowMs: 0 });
    faults.note('a', { attempt: 1 });
    expect(faults.current('b')).toBeUndefined();
  });

  it('has no pause if the first pause is 0', () => {
    const faults = new PassingFaults<object>(growingPauses(0), () => 0);
    for (let attempt = 0; attempt < 5; attempt++) {
      faults.note('a', {});
      expect(faults.current('a')).toBeUndefined();
    }
  });
});

describe('a memo of temporary values', () => {
  it('keeps a final value, and keeps another for its pause only', async () => {
    const isFinal = ({ isDone }: { isDone: boolean }): boolean => isDone;
    const bound = { maxEntries: 10 };
    const made: string[] = [];
    const make = (name: string, isDone: boolean) => async (): Promise<{ isDone: boolean }> => {
      made.push(name);
      return Promise.resolve({ isDone });
    };
    for (const firstMs of [0, 1_000_000]) {
      const memo = new Memo('index', new Events(collectingLogger()), bound, {
        isFinal,
        pauses: growingPauses(firstMs),
      });
      for (let time = 0; time < 2; time++) {
        await memo.get('passing', make(`passing ${firstMs}`, false));
        await memo.get('final', make(`final ${firstMs}`, true));
      }
    }
    expect(made).toEqual(['passing 0', 'final 0', 'passing 0', 'passing 1000000', 'final 1000000']);
  });
});
