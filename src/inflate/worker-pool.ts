import { extname } from 'node:path';
import type { Transferable } from 'node:worker_threads';

import { Piscina } from 'piscina';

import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import { WORKER_ARGUMENTS } from '../core/worker-arguments.ts';
import { WorkQueue } from '../core/work-queue.ts';
import { decodeError } from './error-transfer.ts';
import type { DispatchInput, DispatchOutcome } from './worker-dispatch.ts';

export interface WorkerPoolOptions {
  /** Module whose named exports are the tasks: functions of one input; may be async, may return a TransferredResult. */
  readonly entry: URL;
  /** At most this many; they start when they are needed and stay. */
  readonly threads: number;
  /** For error messages. */
  readonly name: string;
  /** Tasks that may wait for a thread; one more is refused. */
  readonly maxQueue: number;
  /** A thread broke while it had nothing to do; another takes its place. */
  readonly onThreadError?: (error: Error) => void;
}

export interface RunOptions {
  /** Parts of the input that go over to the thread instead of being copied. */
  readonly transfer?: readonly Transferable[];
  /** Takes a waiting task out of the queue. A task that runs is killed together with its thread, which is expensive. */
  readonly signal?: AbortSignal | undefined;
  /** Tasks with the same word wait for each other; those with other words take turns with them. */
  readonly line?: string | undefined;
}

/** Threads that run the exports of one module. */
export class WorkerPool implements AsyncDisposable {
  readonly #piscina: Piscina;
  readonly #queue: WorkQueue;
  readonly #options: WorkerPoolOptions;
  #disposed = false;

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    this.#queue = new WorkQueue({ maxRunning: options.threads, maxWaiting: options.maxQueue });
    const dispatcher = new URL(`./worker-dispatch${extname(import.meta.url)}`, import.meta.url);
    this.#piscina = new Piscina({
      filename: dispatcher.href,
      name: 'dispatch',
      minThreads: 0,
      maxThreads: options.threads,
      idleTimeout: Infinity,
      execArgv: [...WORKER_ARGUMENTS],
    });
    this.#piscina.on('error', (error: Error) => options.onThreadError?.(error));
  }

  /** Tasks that wait for a thread. */
  get queueSize(): number {
    return this.#queue.waiting;
  }

  /**
   * What the exported function `task` makes of `input`; both values are cloned.
   * @throws SpandrelError as the task threw it (anything else as INTERNAL), OVERLOADED when too many tasks wait, SHUTTING_DOWN
   * after disposal; the reason of `signal`
   */
  async run<T>(task: string, input: unknown, options: RunOptions = {}): Promise<T> {
    const { signal, line } = options;
    if (this.#disposed) throw this.#shuttingDown();
    return this.#queue.run(() => this.#runNow<T>(task, input, options), signal, line);
  }

  async #runNow<T>(task: string, input: unknown, { transfer, signal }: RunOptions): Promise<T> {
    const { entry, name } = this.#options;
    if (this.#disposed) throw this.#shuttingDown();
    const message: DispatchInput = { entry: entry.href, task, input };
    let outcome: DispatchOutcome;
    try {
      outcome = (await this.#piscina.run(message, {
        name: 'dispatch',
        transferList: [...(transfer ?? [])],
        signal: signal ?? null,
      })) as DispatchOutcome;
    } catch (error) {
      signal?.throwIfAborted();
      if (this.#disposed) throw this.#shuttingDown();
      if (isSpandrelError(error)) throw error;
      throw new SpandrelError('INTERNAL', `a ${name} thread broke`, { cause: error });
    }
    if (!outcome.ok) throw decodeError(outcome.error);
    return outcome.value as T;
  }

  /** Ends the threads, in the middle of their tasks. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    await this.#piscina.destroy();
  }

  #shuttingDown(): SpandrelError {
    return new SpandrelError('SHUTTING_DOWN', `the ${this.#options.name} threads have been stopped`);
  }
}
