import { readFile } from 'node:fs/promises';

import { type Program, runProgram } from '../../test/helpers/programs.ts';

/** USER_HZ: 100 on every Linux that runs Node. */
const TICKS_PER_SECOND = 100;

/** Output and CPU cost of a client process. */
export interface ClientRun<Result> {
  readonly result: Result;
  readonly cpuSeconds: number;
}

/** Runs one of our scripts with options and result as JSON. Only one client may run at a time. */
export async function runClient<Result>(script: string, options: unknown): Promise<ClientRun<Result>> {
  return await runJsonProgram('node', [script, JSON.stringify(options)]);
}

/** Runs a program whose last line of output is JSON. Only one client may run at a time. */
export async function runJsonProgram<Result>(
  command: Program,
  args: readonly string[],
): Promise<ClientRun<Result>> {
  const before = await endedChildrenSeconds();
  const stdout = await runProgram(command, args);
  const last = stdout.toString().trimEnd().split('\n').at(-1) ?? '';
  return { result: JSON.parse(last) as Result, cpuSeconds: (await endedChildrenSeconds()) - before };
}

/** CPU time of all ended child processes. */
async function endedChildrenSeconds(): Promise<number> {
  const stat = await readFile('/proc/self/stat', 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[13]) + Number(fields[14])) / TICKS_PER_SECOND;
}
