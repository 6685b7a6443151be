import { readFile } from 'node:fs/promises';

import { beforeAll, describe, expect, it } from 'vitest';

import { Dice } from './dice.ts';
import { FuzzRunner } from './fuzz-runner.ts';
import { FAULTY_CASE } from './targets/faulty-targets.ts';
import { temporaryFolder } from '../helpers/temporary-folder.ts';

const SEED = 1;
const HANG_MS = 2000;
const TIMEOUT_MS = 60_000;

let folder: string;
beforeAll(async () => {
  folder = await temporaryFolder();
});

describe('the fuzzer', () => {
  it.each([
    ['a case that throws another error', 'faulty-error', 'TypeError: a bug', {}],
    ['an error with an unexpected code', 'faulty-code', 'SpandrelError: no code of this target', {}],
    ['a case that takes too much CPU', 'faulty-slow', 'of CPU, 100 are allowed', {}],
    ['a case that keeps the event loop', 'faulty-turn', 'took a turn of the event loop for', {}],
    ['a case that takes too much memory', 'faulty-memory', 'bytes of memory', {}],
    ['a case that never ends', 'faulty-hang', `has not ended after ${HANG_MS} ms`, { hangMs: HANG_MS }],
    ['a case that waits for ever', 'faulty-wait', `has not ended after ${HANG_MS} ms`, { hangMs: HANG_MS }],
    ['a case that eats the memory', 'faulty-heap', 'ERR_WORKER_OUT_OF_MEMORY', { maxHeapMb: 64 }],
  ])(
    'the fuzzer finds %s, and prints how to run it again',
    async (_what, target, problem, options) => {
      await using runner = new FuzzRunner({ corpus: 'empty', findings: folder, ...options });
      const { findings } = await runner.run({ target, seed: SEED, from: 0, to: FAULTY_CASE + 2 });
      expect(findings).toHaveLength(1);
      const [found] = findings;
      expect(found).toMatchObject({
        target,
        seed: SEED,
        caseNumber: FAULTY_CASE,
        command: `npm run fuzz -- --target ${target} --seed ${SEED} --case ${FAULTY_CASE} --corpus empty`,
      });
      expect(found?.problem).toContain(problem);
      const written = await readFile(found?.inputPath ?? '');
      expect(written).toEqual(new Dice({ seed: SEED, target, number: FAULTY_CASE }).bytes(10));
    },
    TIMEOUT_MS,
  );
});

describe('dice', () => {
  it('dice are equal for equal seed, target and case, and differ otherwise', () => {
    const place = { seed: 7, target: 'ztoc', number: 9 };
    const fall = (other: object): string => new Dice({ ...place, ...other }).bytes(20).toString('hex');
    expect(fall({})).toBe('a4a8440634a3eddfecd9ed19f773aa3522958ec5');
    expect(new Set([{}, { seed: 8 }, { target: 'tar' }, { number: 10 }].map(fall)).size).toBe(4);
  });
});
