import { size, ValueProblem } from '../../config/value-kinds.ts';
import { UsageError } from './usage-error.ts';

/** Parses a number of bytes, plain or with a unit (`4MiB`). @throws UsageError that names the flag */
export function parseSizeFlag(flag: string, text: string, least: number): number {
  try {
    return size(least).parse(text);
  } catch (error) {
    if (error instanceof ValueProblem) throw new UsageError(`${flag}: ${error.message}`);
    throw error;
  }
}
