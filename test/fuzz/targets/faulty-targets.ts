import { SpandrelError } from '../../../src/core/errors.ts';
import type { FuzzTarget } from '../target.ts';

/** The case from which on each of them goes wrong. */
export const FAULTY_CASE = 3;

function faulty(name: string, goWrong: () => Promise<void> | void): FuzzTarget {
  let cases = 0;
  return {
    name,
    claim: 'goes wrong',
    codes: ['INDEX_MALFORMED'],
    testCases: 0,
    maxCpuMs: 100,
    makeInput: (dice) => dice.bytes(10),
    read: () => (cases++ === FAULTY_CASE ? goWrong() : undefined),
  };
}

/** Targets with a fault, to prove that the fuzzer notices it. */
export const FAULTY_TARGETS: readonly FuzzTarget[] = [
  faulty('faulty-error', () => {
    throw new TypeError('a bug');
  }),
  faulty('faulty-code', () => {
    throw new SpandrelError('INTERNAL', 'no code of this target');
  }),
  faulty('faulty-slow', () => {
    const start = process.threadCpuUsage();
    while (process.threadCpuUsage(start).user < 200_000);
  }),
  faulty('faulty-hang', () => {
    for (;;);
  }),
  faulty('faulty-wait', () => new Promise(() => undefined)),
  faulty('faulty-heap', () => {
    const hoard: number[][] = [];
    for (;;) hoard.push(Array.from<number>({ length: 2 ** 20 }).fill(0.5));
  }),
];
