import { readFileSync } from 'node:fs';

import { nodeErrorCode } from '../core/node-error-code.ts';

const LOOK_MS = 250;
/** A script with one of these may leave commands behind on purpose. */
const SEVERAL_COMMANDS = /[&;|\n]/;

/**
 * Sends this process SIGTERM when npm ends before it, or the shell in which npm runs it (`npx spandrel
 * serve`). npm hands on SIGTERM and SIGINT only, and only to that shell. If the shell is dash, it ends, and
 * the command goes on (npm `@npmcli/run-script`, signal-manager.js).
 */
export function endWithNpm(): void {
  if (process.env['npm_lifecycle_event'] === undefined) return;
  const parent = process.ppid;
  const npm = findNpm(parent);
  if (npm === undefined) return;
  const timer = setInterval(() => {
    if (process.ppid === parent && isAlive(npm)) return;
    clearInterval(timer);
    process.kill(process.pid, 'SIGTERM');
  }, LOOK_MS);
  timer.unref();
}

/**
 * The process of npm: `parent`, or the parent of that if it is a shell with one command. `undefined` if there
 * is none, or no `/proc`: elsewhere `sh` is bash, which the command replaces.
 */
export function findNpm(parent: number): number | undefined {
  try {
    if (isNpm(parent)) return parent;
    const [, flag, script = ''] = readCommandLine(parent);
    if (flag !== '-c' || SEVERAL_COMMANDS.test(script)) return undefined;
    // `pid (name) state ppid …`; a name may have brackets.
    const [, , ppid] = readFileSync(`/proc/${parent}/stat`, 'utf8').replace(/^.*\)/s, '').split(' ');
    return isNpm(Number(ppid)) ? Number(ppid) : undefined;
  } catch (error) {
    if (nodeErrorCode(error) === 'ENOENT') return undefined;
    throw error;
  }
}

/** npm changes its title: `npm exec spandrel serve`. */
function isNpm(pid: number): boolean {
  return /^npm( |$)/.test(readCommandLine(pid)[0] ?? '');
}

function readCommandLine(pid: number): string[] {
  return readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0');
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    // The process of another user lives.
    return nodeErrorCode(error) === 'EPERM';
  }
}
