import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';

import { collectOutput } from './collected-output.ts';
import { startProgram } from './programs.ts';

const MAIN = new URL('../../src/cli/bin.ts', import.meta.url).pathname;

/** The command `spandrel` in a process of its own. */
export class SpandrelProcess implements AsyncDisposable {
  stdout = '';
  stderr = '';
  readonly #child: ChildProcess;
  readonly #exited: Promise<number | null>;
  #onOutput: () => void = () => undefined;

  /** @param child the command where it is started in another way, its output as pipes */
  constructor(
    args: readonly string[],
    environment: Readonly<Record<string, string>> = {},
    cwd?: string,
    child: ChildProcess = startProgram('node', [MAIN, ...args], {
      cwd,
      environment,
      stdio: ['ignore', 'pipe', 'pipe'],
    }),
  ) {
    this.#child = child;
    this.#exited = once(this.#child, 'close').then(([status]) => status as number | null);
    collectOutput(`${args.join(' ')}\n`);
    this.#child.stdout?.on('data', (chunk: Buffer) => {
      this.stdout += chunk.toString();
      collectOutput(chunk.toString());
      this.#onOutput();
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
      collectOutput(chunk.toString());
      this.#onOutput();
    });
  }

  /** Addresses of both listeners, once they are open. @throws Error if the process ends before */
  async listening(): Promise<{ url: string; adminUrl: string }> {
    const { promise, resolve, reject } = Promise.withResolvers<{ url: string; adminUrl: string }>();
    this.#onOutput = () => {
      const [, url, adminUrl] = /span API at (\S+), operations at (\S+)\n/.exec(this.stderr) ?? [];
      if (url !== undefined && adminUrl !== undefined) resolve({ url, adminUrl });
    };
    this.#onOutput();
    void this.#exited.then(() => reject(new Error(`spandrel ended:\n${this.stderr}`)));
    return promise;
  }

  /** Of the process; undefined if it could not be started. */
  get pid(): number | undefined {
    return this.#child.pid;
  }

  kill(signal: NodeJS.Signals): void {
    this.#child.kill(signal);
  }

  /** Exit status; null if a signal ended it. */
  exitStatus(): Promise<number | null> {
    return this.#exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#child.kill('SIGKILL');
    await this.#exited;
  }
}
