import { execFile, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { pipeline } from 'node:stream/promises';
import { promisify } from 'node:util';

/** What a decoder or a build has taken, with all its threads or processes. */
export interface CommandTimes {
  readonly cpuSeconds: number;
  readonly wallSeconds: number;
}

/** True if the machine has it. */
export function hasCommand(command: string): boolean {
  return spawnSync('which', [command], { stdio: 'ignore' }).status === 0;
}

/** Run a command without its output. Bash keeps the time, since Node does not tell the processor time of one child. */
export async function timeCommand(command: readonly string[]): Promise<CommandTimes> {
  const script = 'TIMEFORMAT="%R %U %S"; time "$@" > /dev/null';
  const { stderr } = await promisify(execFile)('bash', ['-ec', script, 'bash', ...command]);
  const [wallSeconds = Number.NaN, user = Number.NaN, system = Number.NaN] = stderr
    .trim()
    .split(' ')
    .map(Number);
  return { wallSeconds, cpuSeconds: user + system };
}

/** sha256 of what a command prints, in hex. */
export async function hashOutput(command: string, args: readonly string[]): Promise<string> {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  const hash = createHash('sha256');
  await pipeline(child.stdout, hash);
  return hash.digest('hex');
}
