import { isSpandrelError } from '../../src/core/errors.ts';
import type { Corpus } from './corpus.ts';
import { type CaseCost, CaseWatch } from './case-watch.ts';
import { type CasePlace, Dice } from './dice.ts';
import type { CaseContext, FuzzTarget } from './target.ts';

/** Most CPU milliseconds of a case, garbage collection included, with an allowance for slow machines. */
const MAX_CPU_MS = 3000;
/**
 * Most memory of a case, garbage included: below what the limit in docker/kubernetes leaves besides caches
 * and threads.
 */
const MAX_MEMORY_BYTES = 512 * 2 ** 20;

export interface CaseResult {
  /** `accepted`, or the code of the error that refused the input; absent for a failure. */
  readonly outcome?: string;
  /** What is wrong. */
  readonly problem?: string;
  readonly input: Buffer;
  readonly cpuMs: number;
}

/** Shared by all cases of a run. */
export interface CaseSurroundings {
  readonly corpus: Corpus;
  /** An empty folder. */
  readonly scratch: string;
}

/** Runs one case. Its input depends only on its place and the corpus. */
export async function runCase(
  target: FuzzTarget,
  place: CasePlace,
  given: CaseSurroundings,
): Promise<CaseResult> {
  const dice = new Dice(place);
  const input = makeInput(target, dice, given.corpus);
  if (typeof input === 'string') return { input: Buffer.alloc(0), cpuMs: 0, problem: input };
  using watch = new CaseWatch();
  const verdict = await judge(target, input, { dice, scratch: given.scratch });
  const cost = watch.cost();
  const excess = findExcess(target, cost);
  if (excess !== undefined) return { input, cpuMs: cost.cpuMs, problem: excess };
  return { input, cpuMs: cost.cpuMs, ...verdict };
}

/** The resource that a case used too much of. */
function findExcess(
  { maxCpuMs = MAX_CPU_MS, maxTurnMs = Number.POSITIVE_INFINITY }: FuzzTarget,
  { cpuMs, longestTurnMs, memoryBytes }: CaseCost,
): string | undefined {
  if (cpuMs > maxCpuMs) return `took ${Math.round(cpuMs)} ms of CPU, ${maxCpuMs} are allowed`;
  if (longestTurnMs > maxTurnMs)
    return `took a turn of the event loop for ${Math.round(longestTurnMs)} ms, ${maxTurnMs} are allowed`;
  if (memoryBytes > MAX_MEMORY_BYTES)
    return `took ${memoryBytes} bytes of memory, ${MAX_MEMORY_BYTES} are allowed`;
  return undefined;
}

/** The input, or why there is none, which is a fault of the fuzzer. */
function makeInput(target: FuzzTarget, dice: Dice, corpus: Corpus): Buffer | string {
  try {
    return target.makeInput(dice, corpus);
  } catch (error) {
    return `no input could be made: ${describe(error)}`;
  }
}

async function judge(
  target: FuzzTarget,
  input: Buffer,
  context: CaseContext,
): Promise<Pick<CaseResult, 'outcome' | 'problem'>> {
  try {
    await target.read(input, context);
    return { outcome: 'accepted' };
  } catch (error) {
    if (isSpandrelError(error, ...target.codes)) return { outcome: error.code };
    return { problem: describe(error) };
  }
}

function describe(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}
