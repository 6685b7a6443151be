import { beforeAll, describe, expect, it } from 'vitest';

import { type Batch, FINDINGS, FuzzRunner, printFinding } from './fuzz-runner.ts';
import { ALL_TARGETS } from './targets/all-targets.ts';
import { cleanup } from '../helpers/cleanup.ts';

/** Fixed cases; `npm run fuzz` runs others. */
const SEED = 20_261_121;
/** Allowance for compiled code and lazily created tables; a case that leaks its input exceeds it by far. */
const MAX_GROWTH_BYTES = 64 * 2 ** 20;
const TIMEOUT_MS = 120_000;

let runner: FuzzRunner;
const usedBytes: number[] = [];

beforeAll(() => {
  runner = cleanup.use(new FuzzRunner({ corpus: 'small', findings: FINDINGS }));
});

async function run(target: string, cases: number): Promise<Batch> {
  const batch = await runner.run({ target, seed: SEED, from: 0, to: cases });
  if (batch.usedBytes !== undefined) usedBytes.push(batch.usedBytes);
  return batch;
}

describe('whatever comes from outside', () => {
  it.each(ALL_TARGETS)(
    '$claim ($name, $testCases cases)',
    async ({ name, testCases }) => {
      const { findings, outcomes } = await run(name, testCases);
      expect(findings.map(printFinding)).toEqual([]);
      // If all cases were refused, they would cover only half of the code.
      expect([...outcomes.keys()]).toContain('accepted');
    },
    TIMEOUT_MS,
  );

  it('fuzz cases leak no memory', () => {
    expect(usedBytes).toHaveLength(ALL_TARGETS.length);
    expect((usedBytes.at(-1) ?? 0) - (usedBytes[0] ?? 0)).toBeLessThan(MAX_GROWTH_BYTES);
  });
});
