import { vi } from 'vitest';

import { runCommand } from '../../../src/cli/run-command.ts';

/** Runs a command line in this process: its exit status, and what it prints. */
export async function printedCommand(
  ...args: readonly string[]
): Promise<{ status: number; stdout: string; stderr: string }> {
  const writes = [process.stdout, process.stderr].map((stream) =>
    vi.spyOn(stream, 'write').mockReturnValue(true),
  );
  try {
    const status = await runCommand(args);
    const [stdout = '', stderr = ''] = writes.map(({ mock }) =>
      Buffer.concat(mock.calls.map(([part]) => Buffer.from(part))).toString(),
    );
    return { status, stdout, stderr };
  } finally {
    for (const write of writes) write.mockRestore();
  }
}
