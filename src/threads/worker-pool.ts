import type { Transferable } from 'node:worker_threads';

import { SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import { WorkQueue } from '../core/work/work-queue.ts';
import type { ThreadKind } from '../telemetry/metrics.ts';
import { decodeError } from './encoded-error.ts';
import { GrowingPause } from './growing-pause.ts';
import { TaskThread } from './task-thread.ts';
import type { TransferredResult } from './transferred-result.ts';
import { decodeThreadFault, type EncodedThreadFault, type ThreadFault, threadFault } from './thread-fault.ts';

export interface WorkerPoolOptions {
  /** The module of the tasks. */
  readonly entry: URL;
  /** Most threads. They start on demand and stay. */
  readonly threads: number;
  readonly name: ThreadKind;
  /** Tasks that a thread runs side by side; 1 by default. More suit tasks that mostly wait. */
  readonly tasksPerThread?: number;
  /** Most tasks that wait for a thread. Further ones are refused. */
  readonly maxQueue: number;
  /**
   * Called when a thread, or a thread that it has started ({@link reportThreadFault}), does not start or
   * dies.
   */
  readonly onFault?: ((fault: ThreadFault) => void) | undefined;
  /** A thread that has not started in this time is ended; a minute by default. */
  readonly startTimeoutMs?: number;
}

export interface RunOptions {
  /** Parts of the input to transfer instead of copying. */
  readonly transfer?: readonly Transferable[];
  /**
   * Takes a waiting task out of the queue. A running task is killed with its thread, which is expensive, and
   * with all tasks that the thread runs beside it.
   */
  readonly signal?: AbortSignal | undefined;
  /** Fairness key: first come, first served within a key, round-robin across keys. */
  readonly fairnessKey?: string | undefined;
}

/** The result for the caller of a task. */
type TaskResult<T> = Awaited<T> extends TransferredResult<infer Value> ? Value : Awaited<T>;

/**
 * The exported functions of a module, each with one input, as called from another thread. Input and result
 * are cloned, except buffers that the options or a {@link TransferredResult} transfer.
 */
export type Tasks<Module> = {
  readonly [
    Name in keyof Module as Module[Name] extends (input: never) => unknown ? Name : never
  ]: Module[Name] extends (input: infer Input) => infer Result
    ? (input: Input, options?: RunOptions) => Promise<TaskResult<Result>>
    : never;
};

const START_TIMEOUT_MS = 60_000;

/**
 * Threads that run the exports of `Module`, as in `new WorkerPool<typeof layerTasks>(...)`. A thread that
 * dies fails its tasks and is replaced, after a pause that grows while threads die or do not start. Waiting
 * tasks wait for another thread; they fail if no thread lives and one does not start.
 */
export class WorkerPool<Module> implements AsyncDisposable {
  /**
   * The tasks.
   * @throws SpandrelError of the task (other errors as INTERNAL), WORKER_FAILED if the thread died or none
   * started, OVERLOADED if too many tasks wait, SHUTTING_DOWN after disposal; the reason of the options'
   * signal
   */
  readonly tasks: Tasks<Module>;
  readonly #options: WorkerPoolOptions;
  readonly #queue: WorkQueue;
  readonly #pause = new GrowingPause();
  readonly #stopping = new AbortController();
  /** Starting and living threads. */
  readonly #threads = new Set<TaskThread>();
  /** Threads that can take another task. */
  readonly #free = new Set<TaskThread>();
  readonly #tasksPerThread: number;
  /** Tasks that have left the queue and wait for a thread. */
  readonly #wanting = new Set<PromiseWithResolvers<TaskThread>>();
  readonly #starts = new Set<Promise<void>>();

  constructor(options: WorkerPoolOptions) {
    this.#options = options;
    const { threads, tasksPerThread = 1, maxQueue } = options;
    this.#tasksPerThread = tasksPerThread;
    this.#queue = new WorkQueue({ maxRunning: threads * tasksPerThread, maxWaiting: maxQueue });
    // Only the compiler knows the module: here each property is a function that runs the task of that name.
    const call = (_: object, name: string | symbol) => (input: unknown, run?: RunOptions) =>
      this.#run(String(name), input, run);
    this.tasks = new Proxy({}, { get: call }) as Tasks<Module>;
  }

  /** Running and waiting tasks. */
  get pendingTasks(): number {
    return this.#queue.running + this.#queue.waiting;
  }

  /** Tasks that wait for a thread. */
  get waitingTasks(): number {
    return this.#queue.waiting;
  }

  /** How long no thread will start after failures; 0 while a thread lives. */
  get pauseMs(): number {
    return this.#liveThreads > 0 ? 0 : this.#pause.remainingMs;
  }

  get #liveThreads(): number {
    return [...this.#threads].filter(({ isAlive }) => isAlive).length;
  }

  async #run(task: string, input: unknown, options: RunOptions = {}): Promise<unknown> {
    const { signal, fairnessKey } = options;
    this.#assertRunning();
    return this.#queue.run(() => this.#runNow(task, input, options), signal, fairnessKey);
  }

  async #runNow(task: string, input: unknown, { transfer = [], signal }: RunOptions): Promise<unknown> {
    this.#assertRunning();
    const thread = await this.#take(signal);
    try {
      const outcome = await waitFor(thread.run({ task, input }, transfer), signal);
      this.#pause.noteSuccess();
      if (!outcome.ok) throw decodeError(outcome.error);
      return outcome.value;
    } catch (error) {
      if (signal?.aborted === true) this.#end(thread);
      signal?.throwIfAborted();
      this.#assertRunning();
      if (error instanceof SpandrelError) throw error;
      if (!thread.isAlive) throw threadFault(this.#options.name, 'task', error).error;
      throw new SpandrelError('INTERNAL', `a task cannot be sent to a ${this.#options.name} thread`, {
        cause: error,
      });
    } finally {
      this.#give(thread);
    }
  }

  #end(thread: TaskThread): void {
    this.#free.delete(thread);
    void thread.end().finally(() => this.#threads.delete(thread));
  }

  /** A thread for one task. Call {@link #give} afterwards. */
  async #take(signal: AbortSignal | undefined): Promise<TaskThread> {
    const [free] = this.#free;
    if (free !== undefined) return this.#occupy(free);
    const wanted = Promise.withResolvers<TaskThread>();
    this.#wanting.add(wanted);
    this.#grow();
    try {
      return await waitFor(wanted.promise, signal);
    } catch (error) {
      // The thread may have been assigned at the same moment.
      if (!this.#wanting.delete(wanted)) wanted.promise.then((thread) => this.#give(thread), ignore);
      throw error;
    }
  }

  #occupy(thread: TaskThread): TaskThread {
    thread.tasks++;
    if (thread.tasks === this.#tasksPerThread) this.#free.delete(thread);
    return thread;
  }

  /** Ends the use of a thread by a task. */
  #give(thread: TaskThread): void {
    thread.tasks--;
    this.#offer(thread);
  }

  #offer(thread: TaskThread): void {
    if (!thread.isAlive) return;
    this.#free.add(thread);
    for (const wanted of this.#wanting) {
      if (!this.#free.has(thread)) return;
      this.#wanting.delete(wanted);
      wanted.resolve(this.#occupy(thread));
    }
  }

  /** Starts threads for the tasks that wait. */
  #grow(): void {
    const isWanted = (): boolean =>
      this.#starts.size * this.#tasksPerThread < this.#wanting.size &&
      this.#starts.size + this.#liveThreads < this.#options.threads;
    while (isWanted() && !this.#stopping.signal.aborted) {
      const start: Promise<void> = this.#start().finally(() => {
        this.#starts.delete(start);
        this.#grow();
      });
      this.#starts.add(start);
    }
  }

  /** Never rejects. */
  async #start(): Promise<void> {
    const { signal } = this.#stopping;
    await this.#pause.over(signal).catch(ignore);
    if (signal.aborted || this.#wanting.size === 0) return;
    const { entry, startTimeoutMs = START_TIMEOUT_MS, name, onFault } = this.#options;
    const thread: TaskThread = new TaskThread({
      entry,
      maxTasks: this.#tasksPerThread,
      startTimeoutMs,
      onMessage: (message) => onFault?.(decodeThreadFault(message as EncodedThreadFault)),
      onDeath: (cause) => this.#noteDeath(thread, cause),
    });
    this.#threads.add(thread);
    try {
      await thread.start();
      this.#offer(thread);
    } catch (error) {
      this.#threads.delete(thread);
      if (!signal.aborted) this.#noteFailedStart(threadFault(name, 'start', error));
    }
  }

  #noteFailedStart(fault: ThreadFault): void {
    this.#noteFault(fault);
    if (this.#liveThreads > 0) return;
    this.#queue.refuseWaiting(fault.error);
    this.#refuseWanting(fault.error);
  }

  #noteDeath(thread: TaskThread, cause: unknown): void {
    this.#threads.delete(thread);
    this.#free.delete(thread);
    const step = thread.tasks === 0 ? 'idle' : 'task';
    this.#noteFault(threadFault(this.#options.name, step, cause));
  }

  #noteFault(fault: ThreadFault): void {
    this.#pause.noteFailure();
    this.#options.onFault?.(fault);
  }

  #refuseWanting(error: Error): void {
    for (const { reject } of this.#wanting) reject(error);
    this.#wanting.clear();
  }

  /** Ends the threads, in the middle of their tasks. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    this.#refuseWanting(this.#shuttingDown());
    this.#free.clear();
    await Promise.all([...this.#threads].map((thread) => thread.end()));
    this.#threads.clear();
    await Promise.all(this.#starts);
  }

  #assertRunning(): void {
    if (this.#stopping.signal.aborted) throw this.#shuttingDown();
  }

  #shuttingDown(): SpandrelError {
    return new SpandrelError('SHUTTING_DOWN', `the ${this.#options.name} threads have been stopped`);
  }
}

function ignore(): void {
  // Another waiter handles the outcome.
}
