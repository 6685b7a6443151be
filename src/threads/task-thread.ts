import { extname } from 'node:path';
import type { Transferable, Worker } from 'node:worker_threads';

import { Piscina } from 'piscina';

import type { DispatchOutcome, TaskInput } from './task-dispatch.ts';
import { decodeError } from './error-transfer.ts';
import { WORKER_ARGUMENTS } from './worker-arguments.ts';

export interface TaskThreadOptions {
  /** Module whose named exports are the tasks. */
  readonly entry: URL;
  /** One that has not started in this time is given up. */
  readonly startTimeoutMs: number;
  /** Tasks that it may run side by side. */
  readonly maxTasks: number;
  /** What its module tells by `parentPort`. */
  readonly onMessage: (message: unknown) => void;
  /** It has died, whether it was at work or not; called once, not after {@link TaskThread.end}. */
  readonly onDeath: (cause: unknown) => void;
}

/**
 * One worker thread that runs tasks. Piscina has a pool of this one alone: of several, the tasks that wait for one that does
 * not start would wait for ever.
 */
export class TaskThread {
  /** How many tasks have been given to it; counted by its owner. */
  tasks = 0;
  readonly #options: TaskThreadOptions;
  readonly #piscina: Piscina;
  /** Rejects what waits for an outcome. `Promise.race` with one promise of its end would keep every task alive. */
  readonly #pending = new Set<(cause: unknown) => void>();
  #isStarted = false;
  #isOver = false;
  #ending: Promise<void> | undefined;

  constructor(options: TaskThreadOptions) {
    this.#options = options;
    this.#piscina = new Piscina({
      filename: new URL(`./task-dispatch${extname(import.meta.url)}`, import.meta.url).href,
      minThreads: 0,
      maxThreads: 1,
      concurrentTasksPerWorker: options.maxTasks,
      idleTimeout: Infinity,
      execArgv: [...WORKER_ARGUMENTS],
    });
    // Without a listener it would be thrown; what a thread dies of comes from the thread itself.
    this.#piscina.on('error', () => undefined);
    this.#piscina.on('message', options.onMessage);
  }

  /** It takes tasks. */
  get isAlive(): boolean {
    return this.#isStarted && !this.#isOver;
  }

  /** Resolves when the module has been loaded. @throws what kept it from that; the thread is over then */
  async start(): Promise<void> {
    const timer = setTimeout(
      () => this.#die(new Error('it has not started in time')),
      this.#options.startTimeoutMs,
    );
    try {
      const { entry } = this.#options;
      const outcome = await this.#post('prepare', entry.href);
      if (!outcome.ok) throw decodeError(outcome.error);
      this.#isStarted = true;
    } catch (error) {
      await this.end();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /** How a task has ended. @throws what cannot be sent to the thread; if it is no more {@link isAlive}, what it died of */
  run(input: TaskInput, transfer: readonly Transferable[]): Promise<DispatchOutcome> {
    return this.#post('dispatch', input, transfer);
  }

  /** Ends it in the middle of its task. */
  async end(): Promise<void> {
    this.#isOver = true;
    this.#rejectPending(new Error('it has been ended'));
    await (this.#ending ??= this.#destroy());
  }

  async #post(
    name: string,
    message: unknown,
    transfer: readonly Transferable[] = [],
  ): Promise<DispatchOutcome> {
    if (this.#isOver) throw new Error('it is over');
    const isFirst = this.#piscina.threads.length === 0;
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    this.#pending.add(reject);
    try {
      this.#piscina.run(message, { name, transferList: [...transfer] }).then(resolve, reject);
      if (isFirst) this.#watch(this.#piscina.threads[0]);
      return (await promise) as DispatchOutcome;
    } finally {
      this.#pending.delete(reject);
    }
  }

  #rejectPending(cause: unknown): void {
    for (const reject of this.#pending) reject(cause);
    this.#pending.clear();
  }

  /** Piscina does not tell of a thread without tasks that exits, and tells the cause to the task alone. */
  #watch(worker: Worker | undefined): void {
    worker?.once('error', (error: unknown) => this.#die(error));
    worker?.once('exit', (status) => this.#die(new Error(`it has exited with status ${status}`)));
  }

  #die(cause: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#rejectPending(cause);
    if (this.#isStarted) this.#options.onDeath(cause);
    this.#ending = this.#destroy();
  }

  /** Without a thread there is only the task that did not get one, whose failure Piscina would tell nobody. */
  async #destroy(): Promise<void> {
    if (this.#piscina.threads.length > 0) await this.#piscina.destroy();
  }
}
