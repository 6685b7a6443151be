import { resolve } from 'node:path';

import { startProgram } from './programs.ts';
import { SpandrelProcess } from './spandrel-process.ts';

const MAIN = resolve(import.meta.dirname, '../../src/cli/bin.ts');

/** Runs a command on a pseudo-terminal, which passes on what is typed (standard input) and shown. */
const ON_TERMINAL = `
import os, pty, sys
sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))
`;

/** The command `spandrel` as a person starts it; `type` presses keys. */
export function startOnTerminal(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): { terminal: SpandrelProcess; type: (keys: string) => void } {
  // The command ends with its terminal, even if that is killed.
  const command = ['setpriv', '--pdeathsig', 'KILL', process.execPath, MAIN, ...args];
  const child = startProgram('python3', ['-c', ON_TERMINAL, ...command], {
    environment: { NO_COLOR: '1', ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  return {
    terminal: new SpandrelProcess([], {}, undefined, child),
    type: (keys) => void child.stdin.write(keys),
  };
}
