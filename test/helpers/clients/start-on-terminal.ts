import { resolve } from 'node:path';

import { startProgram } from '../programs.ts';
import { SpandrelProcess } from '../spandrel-process.ts';

const MAIN = resolve(import.meta.dirname, '../../../src/cli/bin.ts');

/** The command `spandrel` as a person starts it; `type` presses keys. */
export function startOnTerminal(
  args: readonly string[],
  environment: Readonly<Record<string, string>>,
): { terminal: SpandrelProcess; type: (keys: string) => void } {
  // The command ends with its terminal, even if that is killed.
  const command = ['exec setpriv', '--pdeathsig', 'KILL', process.execPath, MAIN, ...args].join(' ');
  // On a pseudo-terminal: `script` passes on what is typed and shown, and the exit status.
  const child = startProgram('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
    environment: { NO_COLOR: '1', SHELL: '/bin/sh', ...environment },
    stdio: ['pipe', 'pipe', 'pipe'],
  });
  return {
    terminal: new SpandrelProcess([], {}, undefined, child),
    type: (keys) => void child.stdin.write(keys),
  };
}
