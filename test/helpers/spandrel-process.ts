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
  readonly #watchers = new Set<() => void>();

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
      this.#watchers.forEach((look) => look());
    });
    this.#child.stderr?.on('data', (chunk: Buffer) => {
      this.stderr += chunk.toString();
      collectOutput(chunk.toString());
      this.#watchers.forEach((look) => look());
    });
  }

  /** Addresses of both listeners, once they are open. @throws Error if the process ends before */
  async listening(): Promise<{ url: string; adminUrl: string }> {
    return this.#printed(() => {
      const [, url, adminUrl] = /span API at (\S+), operations at ([^\s"]+)["\s]/.exec(this.stdout) ?? [];
      return url !== undefined && adminUrl !== undefined ? { url, adminUrl } : undefined;
    });
  }

  /** The log so far: standard output, a JSON object a line. */
  get log(): Record<string, unknown>[] {
    const whole = this.stdout.slice(0, this.stdout.lastIndexOf('\n') + 1);
    return whole
      .split('\n')
      .filter((line) => line !== '')
      .map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** What `find` finds in the output, once it does. @throws Error if the process ends before */
  async #printed<T>(find: () => T | undefined): Promise<T> {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    const look = (): void => {
      const found = find();
      if (found !== undefined) resolve(found);
    };
    this.#watchers.add(look);
    look();
    void this.#exited.then(() => reject(new Error(`spandrel ended:\n${this.stderr}`)));
    return promise.finally(() => this.#watchers.delete(look));
  }

  /** The first such line of the log, once it is written. @throws Error if the process ends before */
  async logged(isWanted: (line: Record<string, unknown>) => boolean): Promise<Record<string, unknown>> {
    return this.#printed(() => this.log.find(isWanted));
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
