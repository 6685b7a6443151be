import { SpandrelError } from '../../../src/core/errors.ts';
import type { FuzzTarget } from '../target.ts';

/** The first case that fails. */
export const FAULTY_CASE = 3;

function faulty(
  name: string,
  goWrong: () => Promise<void> | void,
  limits: Pick<FuzzTarget, 'maxCpuMs' | 'maxTurnMs'> = { maxCpuMs: 100 },
): FuzzTarget {
  let cases = 0;
  return {
    name,
    claim: 'goes wrong',
    codes: ['INDEX_MALFORMED'],
    testCases: 0,
    ...limits,
    makeInput: (dice) => dice.bytes(10),
    read: () => (cases++ === FAULTY_CASE ? goWrong() : undefined),
  };
}

function useCpu(ms: number): void {
  const start = process.threadCpuUsage();
  while (process.threadCpuUsage(start).user < 1000 * ms);
}

/** Faulty targets, which test that the fuzzer finds faults. */
export const FAULTY_TARGETS: readonly FuzzTarget[] = [
  faulty('faulty-error', () => {
    throw new TypeError('a bug');
  }),
  faulty('faulty-code', () => {
    throw new SpandrelError('INTERNAL', 'no code of this target');
  }),
  faulty('faulty-slow', () => useCpu(200)),
  faulty('faulty-turn', () => useCpu(150), { maxTurnMs: 100 }),
  faulty('faulty-memory', () => {
    Buffer.alloc(600 * 2 ** 20);
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
