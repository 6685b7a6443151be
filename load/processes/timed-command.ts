import { createHash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';

import { type Program, startProgram, tryProgram } from '../../test/helpers/programs.ts';

/** Times of a decoder or build, with all its threads or processes. */
export interface CommandTimes {
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
}

/**
 * Runs a command and drops its output. Bash measures it, since Node does not report the CPU time of a single
 * child.
 */
export async function timeCommand(command: readonly [Program, ...string[]]): Promise<CommandTimes> {
  const script = 'TIMEFORMAT="%R %U %S"; time "$@" > /dev/null';
  const { stderr } = await tryProgram('bash', ['-ec', script, 'bash', ...command]);
  const [wallSeconds = Number.NaN, user = Number.NaN, system = Number.NaN] = stderr
    .toString()
    .trim()
    .split(' ')
    .map(Number);
  return { wallSeconds, cpuSeconds: user + system };
}

/** sha256 of the output of a command, in hex. */
export async function hashOutput(command: Program, args: readonly string[]): Promise<string> {
  const child = startProgram(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const hash = createHash('sha256');
  await pipeline(child.stdout, hash);
  return hash.digest('hex');
}
