import { beforeAll, describe, expect, it } from 'vitest';

import { type Batch, FINDINGS, FuzzRunner, printFinding } from './fuzz-runner.ts';
import { ALL_TARGETS } from './targets/all-targets.ts';
import { cleanup } from '../helpers/cleanup.ts';

/** The same cases every time; `npm run fuzz` goes on with others. */
const SEED = 20_261_121;
/** What compiled code and lazily made tables may take; a case that leaves its input behind would take far more. */
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
      // Cases that are all refused would look into one half of the code only.
      expect([...outcomes.keys()]).toContain('accepted');
    },
    TIMEOUT_MS,
  );

  it('leaves no memory behind', () => {
    expect(usedBytes).toHaveLength(ALL_TARGETS.length);
    expect((usedBytes.at(-1) ?? 0) - (usedBytes[0] ?? 0)).toBeLessThan(MAX_GROWTH_BYTES);
  });
});
