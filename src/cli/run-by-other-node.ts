import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';

/** Tells the other process that it ends with the one that has started it. */
const TIED = '_SPANDREL_TIED_TO_PARENT';
/** Those that a process can act upon, but for the ones that stop it. */
const FORWARDED = ['SIGTERM', 'SIGINT', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2', 'SIGWINCH'] as const;

/**
 * Run a script by another Node with this process's arguments, environment and streams, in the place of this process where Node can do that
 * (since 22.15). Otherwise the two processes behave as one: signals reach the other, its exit status or the signal that ended it becomes that
 * of this one, and it is told to end (SIGTERM) if this one is killed.
 * @param node  path of the binary
 */
export async function runByOtherNode(node: string, script: string, args: readonly string[]): Promise<void> {
  if (process.execve !== undefined) process.execve(node, [node, script, ...args], process.env);
  // In its own session, so that a terminal sends its signals to this process alone, and none comes twice.
  const child = spawn(node, [script, ...args], {
    stdio: ['inherit', 'inherit', 'inherit', 'ipc'],
    env: { ...process.env, [TIED]: '1' },
    detached: true,
  });
  const stopForwarding = forwardSignals(child);
  const [status, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  stopForwarding();
  if (signal === null) process.exitCode = status ?? 1;
  else process.kill(process.pid, signal);
}

/** For the other process: ends it when the one that has started it has gone. */
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
