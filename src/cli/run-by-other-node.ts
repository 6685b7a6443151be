import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { constants } from 'node:os';

/** Set for the child process: it ends with its parent. */
const TIED = '_SPANDREL_TIED_TO_PARENT';
/** Exit status of a program whose libraries the dynamic loader does not find. */
const NOT_LOADED = 127;
/** Signals that a process can handle and that do not suspend it. */
const FORWARDED = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const;
/** Added to the number of a signal, for the exit status. */
const SIGNALLED = 128;

/**
 * Runs a script with another Node binary, with this process's arguments, environment and streams. Replaces
 * this process if Node can do that (since 22.15). Otherwise the two processes behave as one: signals are
 * forwarded, the child's exit status or signal becomes that of this process, and the child gets SIGTERM if
 * this process is killed.
 * @param node  path of the binary
 */
export async function runByOtherNode(node: string, script: string, args: readonly string[]): Promise<void> {
  if (process.execve !== undefined) process.execve(node, [node, script, ...args], process.env);
  // In its own session, so that a terminal sends its signals to this process only, and none arrives twice.
  const child = spawn(node, [script, ...args], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [TIED]: '1' },
    detached: true,
  });
  const stopForwarding = forwardSignals(child);
  const [status, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  stopForwarding();
  if (status === NOT_LOADED)
    process.stderr.write(
      'spandrel: the packaged Node does not start: install libatomic (Debian: libatomic1), or Node 24\n',
    );
  // As a shell says it: as process 1 of a container, this process outlives its own signal.
  process.exitCode = signal === null ? (status ?? 1) : SIGNALLED + constants.signals[signal];
  if (signal !== null) process.kill(process.pid, signal);
}

/** In the child: ends it when its parent has gone. */
export function endWithParent(): void {
  if (process.env[TIED] === undefined) return;
  delete process.env[TIED];
  process.once('disconnect', () => process.kill(process.pid, 'SIGTERM'));
  process.channel?.unref();
}

function forwardSignals(child: ChildProcess): () => void {
  const forward = (signal: NodeJS.Signals): void => void child.kill(signal);
  const suspend = (): void => {
    child.kill('SIGSTOP');
    process.kill(process.pid, 'SIGSTOP');
  };
  for (const signal of FORWARDED) process.on(signal, forward);
  process.on('SIGTSTP', suspend);
  process.on('SIGCONT', forward);
  return () => {
    for (const signal of [...FORWARDED, 'SIGCONT'] as const) process.off(signal, forward);
    process.off('SIGTSTP', suspend);
  };
}
