import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { createInterface } from 'node:readline';

/** A child process that says on its first line that it is ready, and that is ended with whoever started it. */
export class ManagedProcess implements AsyncDisposable {
  readonly #child: ChildProcess;
  /** The line that matched. */
  readonly readyLine: string;

  private constructor(child: ChildProcess, readyLine: string) {
    this.#child = child;
    this.readyLine = readyLine;
  }

  /** Start `node script …args`; resolves when a line of `stream` matches. */
  static async start(options: {
    script: string;
    args?: readonly string[];
    environment?: Readonly<Record<string, string>>;
    ready: RegExp;
    stream: 'stdout' | 'stderr';
  }): Promise<ManagedProcess> {
    const { script, args = [], environment = {}, ready, stream } = options;
    const child = spawn(process.execPath, [script, ...args], {
      env: { ...process.env, ...environment },
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
      child.once('exit', () => reject(new Error(`${script} ended before it was ready:\n${seen.join('\n')}`)));
    });
    return new ManagedProcess(child, line);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Most memory it has ever held, in bytes (Linux). */
  async peakMemoryBytes(): Promise<number> {
    const status = await readFile(`/proc/${this.pid}/status`, 'utf8');
    return Number(/VmHWM:\s+(\d+) kB/.exec(status)?.[1] ?? 0) * 1024;
  }

  /** Processor time so far, user and system, in seconds (Linux). */
  async cpuSeconds(): Promise<number> {
    const stat = await readFile(`/proc/${this.pid}/stat`, 'utf8');
    const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
    return (Number(fields[11]) + Number(fields[12])) / TICKS_PER_SECOND;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    const exited = once(this.#child, 'exit');
    this.#child.kill('SIGTERM');
    await exited;
  }
}

/** USER_HZ, 100 on every Linux that Node runs on. */
const TICKS_PER_SECOND = 100;
