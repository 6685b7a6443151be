import type { ErrorCode } from '../../src/core/errors.ts';
import type { Corpus } from './corpus.ts';
import type { Dice } from './dice.ts';

/** What a case may use. */
export interface CaseContext {
  /** Goes on where `makeInput` has stopped. */
  readonly dice: Dice;
  /** A folder that one case has for itself. */
  readonly scratch: string;
}

/** Something that reads bytes from outside, with the rule for what may come of them. */
export interface FuzzTarget {
  readonly name: string;
  /** What it claims; the title of its test. */
  readonly claim: string;
  /** The codes of the errors that it may throw. */
  readonly codes: readonly ErrorCode[];
  /** Cases of one run of the test suite. */
  readonly testCases: number;
  /** Most CPU time that a case may take in its thread; a default for those that say nothing. */
  readonly maxCpuMs?: number;
  /** Most CPU time of one turn of the event loop, for what runs there and not in a thread; as long as the case may take when not given. */
  readonly maxTurnMs?: number;
  makeInput(dice: Dice, corpus: Corpus): Buffer;
  /**
   * Read `input` and check what came of it.
   * @throws SpandrelError with one of `codes` if the input is refused; anything else is a failure
   */
  read(input: Buffer, context: CaseContext): Promise<void> | void;
}
