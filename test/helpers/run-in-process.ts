import { vi } from 'vitest';

import { runCommand } from '../../src/cli/run-command.ts';

export interface CommandRun {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** A command line in this process: a process of its own takes a second to start. */
export async function runInProcess(...args: readonly string[]): Promise<CommandRun> {
  const written = { stdout: '', stderr: '' };
  using _out = vi.spyOn(process.stdout, 'write').mockImplementation((chunk) => {
    written.stdout += String(chunk);
    return true;
  });
  using _error = vi.spyOn(process.stderr, 'write').mockImplementation((chunk) => {
    written.stderr += String(chunk);
    return true;
  });
  const status = await runCommand(args);
  return { status, ...written };
}
