import { expect, it } from 'vitest';

import { Conditions } from '../../src/telemetry/conditions.ts';
import { createLogger } from '../../src/telemetry/logger.ts';

function setUp(): { conditions: Conditions; lines: Record<string, unknown>[]; clock: { nowMs: number } } {
  const lines: Record<string, unknown>[] = [];
  const clock = { nowMs: 5 };
  const logger = createLogger('info', {
    write: (line) => void lines.push(JSON.parse(line) as Record<string, unknown>),
  });
  return { conditions: new Conditions(logger, () => clock.nowMs), lines, clock };
}

it('a condition that is met often is logged once a minute, with how often', () => {
  const { conditions, lines, clock } = setUp();
  for (let met = 0; met < 1000; met++) conditions.note('a', 'a is short', { what: 'a' });
  conditions.note('b', 'b is short', {});
  expect(lines).toMatchObject([
    { level: 'warn', msg: 'a is short', what: 'a', times: 1 },
    { msg: 'b is short', times: 1 },
  ]);
  clock.nowMs += 59_999;
  conditions.note('a', 'a is short', {});
  expect(lines).toHaveLength(2);
  clock.nowMs += 1;
  conditions.note('a', 'a is very short', {});
  expect(lines.slice(2)).toMatchObject([{ msg: 'a is very short', times: 1001 }]);
});

it('a condition is current, in its last words, until a minute after it was last met', () => {
  const { conditions, clock } = setUp();
  expect(conditions.current).toEqual([]);
  conditions.note('a', 'one waits', {});
  clock.nowMs += 30_000;
  conditions.note('a', 'two wait', {});
  clock.nowMs += 59_999;
  expect(conditions.current).toEqual(['two wait']);
  clock.nowMs += 1;
  expect(conditions.current).toEqual([]);
});
