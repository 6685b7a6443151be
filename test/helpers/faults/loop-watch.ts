import { readFile } from 'node:fs/promises';

/**
 * Asks a process for its health all the time, and measures how much processor time its main thread takes
 * while it is asked. That is how long the event loop keeps others waiting, on a machine that is busy with
 * other things too.
 */
export class LoopWatch implements AsyncDisposable {
  readonly #adminUrl: string;
  readonly #statistics: string;
  readonly #running: Promise<void>;
  #isOver = false;
  #longestMs = 0;

  constructor(adminUrl: string, pid: number) {
    this.#adminUrl = adminUrl;
    // Linux, Documentation/scheduler/sched-stats.rst: the main thread is the task with the number of the
    // process.
    this.#statistics = `/proc/${pid}/task/${pid}/schedstat`;
    this.#running = this.#run();
  }

  /** The longest wait while `work` runs. */
  async during(work: () => Promise<unknown>): Promise<number> {
    this.#longestMs = 0;
    await work();
    await this.#ask();
    return this.#longestMs;
  }

  async #run(): Promise<void> {
    while (!this.#isOver) await this.#ask();
  }

  async #ask(): Promise<void> {
    const before = await this.#cpuMs();
    await (await fetch(`${this.#adminUrl}/healthz`)).arrayBuffer();
    this.#longestMs = Math.max(this.#longestMs, (await this.#cpuMs()) - before);
  }

  async #cpuMs(): Promise<number> {
    const [nanoseconds = ''] = (await readFile(this.#statistics, 'utf8')).split(' ');
    return Number(nanoseconds) / 1e6;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#isOver = true;
    await this.#running;
  }
}
