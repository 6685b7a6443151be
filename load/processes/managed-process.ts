import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';

import { type Program, startProgram } from '../../test/helpers/programs.ts';

const READY_TRIES = 200;
const READY_PAUSE_MS = 50;
const KILOBYTE = 1024;

/** A program to run; its output is kept for the error if it ends early. */
export interface ProgramOptions {
  /** Default: Node. */
  readonly command?: Program;
  readonly args: readonly string[];
  readonly environment?: Readonly<Record<string, string>>;
}

/** A child process that ends with its parent. */
export class ManagedProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** The matching line. */
  readonly readyLine: string;

  private constructor(child: ChildProcess, readyLine = '') {
    this.#child = child;
    this.readyLine = readyLine;
  }

  /** Starts it; resolves when a line of `stream` matches `ready`. */
  static async start(
    options: ProgramOptions & { ready: RegExp; stream: 'stdout' | 'stderr' },
  ): Promise<ManagedProcess> {
    const { ready, stream } = options;
    const { command = 'node', args, environment = {} } = options;
    const child = startProgram(command, args, {
      environment,
      stdio: ['ignore', stream === 'stdout' ? 'pipe' : 'ignore', stream === 'stderr' ? 'pipe' : 'inherit'],
    });
    const output = child[stream];
    if (output === null) throw new Error('the stream of the child is not a pipe');
    const seen: string[] = [];
    const lines = createInterface({ input: output });
    const line = await new Promise<string>((resolve, reject) => {
      lines.on('line', (text) => {
        seen.push(text);
        if (ready.test(text)) resolve(text);
      });
      child.once('exit', () => reject(earlyEnd(options, seen.join('\n'))));
    });
    return new ManagedProcess(child, line);
  }

  /** Starts it; resolves when it sends any response at `url`. */
  static async startServer(options: ProgramOptions & { url: string }): Promise<ManagedProcess> {
    const { command = 'node', args, environment = {} } = options;
    const child = startProgram(command, args, { environment, stdio: ['ignore', 'ignore', 'inherit'] });
    const started = new ManagedProcess(child);
    for (let tries = 0; tries < READY_TRIES; tries++) {
      if (child.exitCode !== null) throw earlyEnd(options, '');
      try {
        await (await fetch(options.url)).arrayBuffer();
        return started;
      } catch {
        // Not listening yet.
        await sleep(READY_PAUSE_MS);
      }
    }
    await started[Symbol.asyncDispose]();
    throw new Error(`${options.command} does not answer at ${options.url}`);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Peak memory in bytes (Linux). */
  async peakMemoryBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * KILOBYTE;
  }

  /** Current memory in bytes (Linux). */
  async memoryBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmRSS:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * KILOBYTE;
  }

  /** Open files, sockets and pipes (Linux). */
  async openDescriptors(): Promise<number> {
    return (await readdir(`/proc/${this.pid}/fd`)).length;
  }

  /** CPU seconds of the process and its children, user and system (Linux). */
  async cpuSeconds(): Promise<number> {
    const children = await readFile(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8');
    const pids = [String(this.pid), ...children.split(' ').filter((pid) => pid !== '')];
    const seconds = await Promise.all(pids.map(processSeconds));
    return seconds.reduce((sum, value) => sum + value, 0);
  }

  /** CPU seconds of the main thread, user and system (Linux). */
  mainThreadSeconds(): Promise<number> {
    return processSeconds(`${this.pid}/task/${this.pid}`);
  }

  /** Kills the process, as in a power failure. */
  async kill(): Promise<void> {
    await this.#end('SIGKILL');
  }

  /** Stops the process where it is, until {@link thaw}. */
  freeze(): void {
    this.#child.kill('SIGSTOP');
  }

  thaw(): void {
    this.#child.kill('SIGCONT');
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.thaw();
    await this.#end('SIGTERM');
  }

  async #end(signal: NodeJS.Signals): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill(signal);
    await exited;
  }
}

/** USER_HZ: 100 on every Linux that runs Node. */
const TICKS_PER_SECOND = 100;

async function processSeconds(pid: string): Promise<number> {
  const stat = await readFile(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
}

function earlyEnd({ command = 'node', args }: ProgramOptions, output: string): Error {
  return new Error(`${command} ${args.join(' ')} ended before it was ready:\n${output}`);
}
