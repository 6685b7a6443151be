import { extname } from 'node:path';
import type { Transferable, Worker } from 'node:worker_threads';

import { Piscina } from 'piscina';

import type { SpandrelError } from '../core/errors.ts';
import type { DispatchOutcome, TaskInput } from './dispatch.ts';
import { decodeError } from './encoded-error.ts';
import { WORKER_ARGUMENTS } from './worker-arguments.ts';

export interface TaskThreadOptions {
  /** Module whose exports are the tasks. */
  readonly entry: URL;
  /** A thread that has not started in this time is ended. */
  readonly startTimeoutMs: number;
  /** Tasks that the thread may run side by side. */
  readonly maxTasks: number;
  /** Called with each message that the module sends through `parentPort`. */
  readonly onMessage: (message: unknown) => void;
  /** Called once when the thread dies, with or without tasks; not after {@link TaskThread.end}. */
  readonly onDeath: (cause: unknown) => void;
}

/**
 * A worker thread that runs tasks, as a Piscina with one thread. In a Piscina with several threads, tasks
 * would wait for ever for a thread that does not start.
 */
export class TaskThread {
  /** Running tasks; counted by the owner. */
  tasks = 0;
  readonly #options: TaskThreadOptions;
  readonly #piscina: Piscina;
  /**
   * Reject functions of running tasks. A `Promise.race` with a promise of the thread's end would retain each
   * task.
   */
  readonly #pending = new Set<(cause: unknown) => void>();
  #isStarted = false;
  #isOver = false;
  #ending: Promise<void> | undefined;

  constructor(options: TaskThreadOptions) {
    this.#options = options;
    this.#piscina = new Piscina({
      filename: new URL(`./dispatch${extname(import.meta.url)}`, import.meta.url).href,
      minThreads: 0,
      maxThreads: 1,
      concurrentTasksPerWorker: options.maxTasks,
      idleTimeout: Infinity,
      execArgv: [...WORKER_ARGUMENTS],
    });
    // Without a listener Piscina would throw. The cause of a death comes from the thread itself.
    this.#piscina.on('error', () => undefined);
    this.#piscina.on('message', options.onMessage);
  }

  /** True if the thread takes tasks. */
  get isAlive(): boolean {
    return this.#isStarted && !this.#isOver;
  }

  /** Resolves when the module is loaded. @throws why it cannot be; the thread has ended then */
  async start(): Promise<void> {
    const timer = setTimeout(
      () => this.#die(new Error('the thread has not started in time')),
      this.#options.startTimeoutMs,
    );
    try {
      const { entry } = this.#options;
      const outcome = await this.#post('prepare', entry.href);
      // What stops a module from loading, for example EMFILE, is no defect.
      if (!outcome.ok) throw causeOf(decodeError(outcome.error));
      this.#isStarted = true;
    } catch (error) {
      await this.end();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Runs a task. @returns how it ended
   * @throws the cause of the thread's death, if it is no longer {@link isAlive}; else why the input cannot be
   * sent
   */
  run(input: TaskInput, transfer: readonly Transferable[]): Promise<DispatchOutcome> {
    return this.#post('dispatch', input, transfer);
  }

  /** Ends the thread, in the middle of its tasks. */
  async end(): Promise<void> {
    this.#isOver = true;
    this.#rejectPending(new Error('the thread has been ended'));
    await (this.#ending ??= this.#destroy());
  }

  async #post(
    name: string,
    message: unknown,
    transfer: readonly Transferable[] = [],
  ): Promise<DispatchOutcome> {
    if (this.#isOver) throw new Error('the thread has ended');
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

  /**
   * Piscina ignores the exit of a thread without tasks, and reports the cause of a death only to the tasks.
   */
  #watch(worker: Worker | undefined): void {
    worker?.once('error', (error: unknown) => this.#die(error));
    worker?.once('exit', (status) => this.#die(new Error(`the thread has exited with status ${status}`)));
  }

  #die(cause: unknown): void {
    if (this.#isOver) return;
    this.#isOver = true;
    this.#rejectPending(cause);
    if (this.#isStarted) this.#options.onDeath(cause);
    this.#ending = this.#destroy();
  }

  /**
   * Without a thread, Piscina holds only the task that got none; destroying it would cause an unhandled
   * rejection.
   */
  async #destroy(): Promise<void> {
    if (this.#piscina.threads.length > 0) await this.#piscina.destroy();
  }
}

/** What a thread threw, if that was no `SpandrelError`. */
function causeOf(error: SpandrelError): unknown {
  return error.code === 'INTERNAL' && error.cause !== undefined ? error.cause : error;
}
