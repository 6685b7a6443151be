import { Worker } from 'node:worker_threads';

import { SpandrelError } from '../core/errors.ts';
import type { ThreadKind } from '../telemetry/metrics.ts';
import { GrowingPause } from './growing-pause.ts';
import { type ThreadFault, threadFault } from './thread-fault.ts';
import { WORKER_ARGUMENTS } from './worker-arguments.ts';

export interface KeptThreadOptions {
  readonly entry: URL;
  readonly kind: ThreadKind;
  readonly onMessage?: (message: unknown) => void;
  /** What `worker` has not answered it never will. `error` is WORKER_FAILED, or SHUTTING_DOWN. */
  readonly onEnd: (worker: Worker, error: SpandrelError) => void;
  readonly onFault?: ((fault: ThreadFault) => void) | undefined;
  /** Somebody waits for its answer; for the fault. */
  readonly isBusy: () => boolean;
}

/**
 * One thread with a protocol of its own. It starts when it is first needed; when it dies, the next who needs it starts another, after a
 * pause that grows as long as threads die before they have answered. It does not keep the process alive.
 */
export class KeptThread implements AsyncDisposable {
  readonly #options: KeptThreadOptions;
  readonly #pause = new GrowingPause();
  readonly #stopping = new AbortController();
  #worker: Worker | undefined;
  #hasAnswered = false;

  constructor(options: KeptThreadOptions) {
    this.#options = options;
  }

  /** The thread if one runs. */
  get running(): Worker | undefined {
    return this.#worker;
  }

  /** How long {@link open} will start none. */
  get pauseMs(): number {
    return this.#worker === undefined ? this.#pause.remainingMs : 0;
  }

  /** The thread, which may not have started yet. @throws SpandrelError WORKER_FAILED if it cannot be started, or during the pause; SHUTTING_DOWN */
  open(): Worker {
    if (this.#stopping.signal.aborted) throw this.#shuttingDown();
    if (this.#worker !== undefined) return this.#worker;
    if (this.#pause.remainingMs > 0)
      throw threadFault(this.#options.kind, 'start', new Error('one has died a moment ago')).error;
    return this.#start();
  }

  /** Resolves at the end of `pause`, when {@link open} may start a thread. @throws the reason of `signal`, SpandrelError SHUTTING_DOWN */
  async over(pause: GrowingPause, signal?: AbortSignal): Promise<void> {
    const { signal: stopping } = this.#stopping;
    const ending = signal === undefined ? stopping : AbortSignal.any([stopping, signal]);
    try {
      await pause.over(ending);
      await this.#pause.over(ending);
    } catch (error) {
      throw stopping.aborted ? this.#shuttingDown() : error;
    }
  }

  #start(): Worker {
    const { entry, kind, onMessage } = this.#options;
    let worker: Worker;
    try {
      worker = new Worker(entry, { name: kind, execArgv: [...WORKER_ARGUMENTS] });
    } catch (error) {
      throw this.#note(threadFault(kind, 'start', error));
    }
    this.#worker = worker;
    this.#hasAnswered = false;
    worker.on('message', (message: unknown) => {
      this.#hasAnswered = true;
      this.#pause.noteSuccess();
      onMessage?.(message);
    });
    worker.once('error', (error) => this.#end(worker, error));
    worker.once('messageerror', (error) => {
      this.#end(worker, error);
      void worker.terminate();
    });
    worker.once('exit', (status) => this.#end(worker, new Error(`it has exited with status ${status}`)));
    worker.unref();
    return worker;
  }

  #end(worker: Worker, cause: unknown): void {
    if (this.#worker !== worker) return;
    this.#worker = undefined;
    const { kind, isBusy, onEnd } = this.#options;
    if (this.#stopping.signal.aborted) {
      onEnd(worker, this.#shuttingDown());
    } else {
      const step = this.#hasAnswered ? (isBusy() ? 'task' : 'idle') : 'start';
      onEnd(worker, this.#note(threadFault(kind, step, cause)));
    }
  }

  #note(fault: ThreadFault): SpandrelError {
    this.#pause.noteFailure();
    this.#options.onFault?.(fault);
    return fault.error;
  }

  #shuttingDown(): SpandrelError {
    return new SpandrelError('SHUTTING_DOWN', `the thread (${this.#options.kind}) has been stopped`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort();
    await this.#worker?.terminate();
  }
}
