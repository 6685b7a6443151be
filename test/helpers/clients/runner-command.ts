import { asksForHelp } from '../../../src/cli/terminal/command-help.ts';
import { nodeErrorCode } from '../../../src/core/node-error-code.ts';

/** A command line that a runner cannot follow. */
export class UsageError extends Error {}

/**
 * Run a command of the tests: `--help` prints `usage`, a command line that cannot be followed prints it too.
 * @param run  returns the exit status
 */
export async function runAsCommand(usage: string, run: () => Promise<number>): Promise<void> {
  if (asksForHelp(process.argv.slice(2))) {
    process.stdout.write(`${usage}\n`);
    return;
  }
  try {
    process.exitCode = await run();
  } catch (error) {
    const isUsage =
      error instanceof UsageError ||
      (error instanceof Error && nodeErrorCode(error).startsWith('ERR_PARSE_ARGS_'));
    if (!isUsage) throw error;
    say(`${error.message}\n\n${usage}`);
    process.exitCode = 2;
  }
}

/** One line on standard error: progress is no part of a runner's output. */
export function say(line: string): void {
  process.stderr.write(`${line}\n`);
}

/** The value of a flag that takes a whole number. @throws UsageError */
export function parseWhole(text: string | undefined, name: string): number | undefined {
  if (text === undefined) return undefined;
  if (/^\d{1,15}$/.test(text)) return Number(text);
  throw new UsageError(`--${name} is no whole number: ${text}`);
}
