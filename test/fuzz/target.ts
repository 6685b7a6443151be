import type { ErrorCode } from '../../src/core/errors.ts';
import type { Corpus } from './corpus.ts';
import type { Dice } from './dice.ts';

/** Resources for a case. */
export interface CaseContext {
  /** Continues where `makeInput` stopped. */
  readonly dice: Dice;
  /** A folder for this case only. */
  readonly scratch: string;
}

/** A reader of untrusted bytes, with the rule for its outcomes. */
export interface FuzzTarget {
  readonly name: string;
  /** Its claim, which is the title of its test. */
  readonly claim: string;
  /** Codes of the errors that it may throw. */
  readonly codes: readonly ErrorCode[];
  /** Cases per run of the test suite. */
  readonly testCases: number;
  /** Most CPU time of a case in its thread; has a default. */
  readonly maxCpuMs?: number;
  /** Most CPU time of one turn of the event loop, for code that runs there; default: that of the case. */
  readonly maxTurnMs?: number;
  makeInput(dice: Dice, corpus: Corpus): Buffer;
  /**
   * Reads `input` and asserts the outcome.
   * @throws SpandrelError with one of `codes` if the input is refused; anything else is a failure
   */
  read(input: Buffer, context: CaseContext): Promise<void> | void;
}
