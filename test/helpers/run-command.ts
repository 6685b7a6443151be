import { spawn } from 'node:child_process';

/** Run a program to its end; its standard output. @throws Error with its standard error if it fails */
export async function runCommand(
  command: string,
  args: readonly string[],
  options: { cwd?: string; input?: Uint8Array } = {},
): Promise<Buffer> {
  const child = spawn(command, args, {
    stdio: ['pipe', 'pipe', 'pipe'],
    ...(options.cwd === undefined ? {} : { cwd: options.cwd }),
  });
  const output: Buffer[] = [];
  const errors: Buffer[] = [];
  child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
  child.stderr.on('data', (chunk: Buffer) => errors.push(chunk));
  // A program that needs only the head of its input closes the pipe early.
  child.stdin.on('error', () => undefined);
  child.stdin.end(options.input);
  return new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status) => {
      if (status === 0) resolve(Buffer.concat(output));
      else
        reject(
          new Error(
            `${command} ${args.join(' ')}: exit status ${status}\n${Buffer.concat(errors).toString()}`,
          ),
        );
    });
  });
}
