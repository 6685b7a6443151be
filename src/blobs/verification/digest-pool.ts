import { extname } from 'node:path';

import type { Digest, DigestAlgorithm } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { waitFor } from '../../core/wait-for.ts';
import { GrowingPause } from '../../threads/growing-pause.ts';
import type { ThreadFault } from '../../threads/thread-fault.ts';
import { WorkerPool } from '../../threads/worker-pool.ts';
import { Growth } from '../files/growth.ts';
import { isPassingFault } from '../files/store-fault.ts';
import type * as digestTasks from './digest-worker.ts';

/**
 * A running hash in the digest thread. If the thread dies, the hash is lost: it can only be forgotten, and
 * all other calls throw WORKER_FAILED.
 */
export interface RunningHash {
  /** Adds bytes, which are copied. Resolves when they are hashed. */
  update(bytes: Uint8Array): Promise<void>;
  /** Ends the hash. */
  digest(): Promise<Digest>;
  /** Ends the hash, which may have ended already. */
  forget(): Promise<void>;
}

export interface DigestPoolOptions {
  readonly entry?: URL;
  readonly onFault?: (fault: ThreadFault) => void;
}

/** How long a hash is retried when its thread dies, or its file cannot be opened. */
const PATIENCE_MS = 2_000;
/** Concurrent digests, most of which wait for their files; further ones wait for these. */
const MAX_RUNNING = 10_000;
const MAX_WAITING = 100_000;

/** Computes digests of growing files in one thread, which starts on demand. */
export class DigestPool implements AsyncDisposable {
  readonly #pool: WorkerPool<typeof digestTasks>;
  readonly #stopping = new AbortController();
  #lastHash = 0;

  constructor({ entry, onFault }: DigestPoolOptions = {}) {
    this.#pool = new WorkerPool<typeof digestTasks>({
      entry: entry ?? new URL(`./digest-worker${extname(import.meta.url)}`, import.meta.url),
      name: 'digest',
      threads: 1,
      tasksPerThread: MAX_RUNNING,
      maxQueue: MAX_WAITING,
      onFault,
    });
  }

  /**
   * Digest of the file at `path`, once `growth` is complete. Before the thread has opened it, the file may be
   * unlinked only if it has another name. If the thread dies, another one starts over.
   * @throws SpandrelError STORE_FAILED if the file cannot be read (the cause has the system's code) or the
   * growth fails, RESOURCE_EXHAUSTED, WORKER_FAILED if threads keep dying, SHUTTING_DOWN; the signal's reason
   */
  async hash(
    path: string,
    growth: Growth,
    algorithm: DigestAlgorithm,
    signal?: AbortSignal,
  ): Promise<Digest> {
    const input = { path, growth: growth.shared, algorithm };
    if (signal === undefined) return this.#persist(() => this.#pool.tasks.hashFile(input));
    const cancelled = new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT);
    const cancel = (): unknown => Atomics.store(new Int32Array(cancelled), 0, 1);
    signal.addEventListener('abort', cancel, { once: true });
    // The signal is not passed to the pool: it would end the thread, and with it other digests.
    const work = (): Promise<Digest> => waitFor(this.#pool.tasks.hashFile({ ...input, cancelled }), signal);
    try {
      return await this.#persist(work, signal);
    } finally {
      signal.removeEventListener('abort', cancel);
    }
  }

  /**
   * Starts a running hash with the first `prefixBytes` of a file. It must be finished or forgotten.
   * @throws SpandrelError as {@link hash}; so do the methods of the hash
   */
  async begin(algorithm: DigestAlgorithm, path: string, prefixBytes: number): Promise<RunningHash> {
    const { tasks } = this.#pool;
    const hash = ++this.#lastHash;
    const { shared: growth } = Growth.complete(prefixBytes);
    await this.#persist(() => tasks.beginHash({ hash, path, growth, algorithm }));
    return {
      update: (bytes) => tasks.updateHash({ hash, bytes }),
      digest: () => tasks.finishHash({ hash }),
      forget: () => tasks.forgetHash({ hash }),
    };
  }

  /** Retries after a temporary failure. */
  async #persist<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const pause = new GrowingPause();
    const giveUpAtMs = performance.now() + PATIENCE_MS;
    for (;;) {
      signal?.throwIfAborted();
      try {
        return await work();
      } catch (error) {
        if (!isPassingFault(error)) throw error;
        pause.noteFailure();
        const waitMs = Math.max(pause.remainingMs, this.#pool.pauseMs);
        if (performance.now() + waitMs > giveUpAtMs) throw error;
        await this.#wait(pause, signal);
      }
    }
  }

  /** @throws SpandrelError SHUTTING_DOWN; the reason of `signal` */
  async #wait(pause: GrowingPause, signal: AbortSignal | undefined): Promise<void> {
    const { signal: stopping } = this.#stopping;
    await pause.over(signal === undefined ? stopping : AbortSignal.any([stopping, signal]));
  }

  /** Rejects pending digests with SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the digest thread has been stopped'));
    await this.#pool[Symbol.asyncDispose]();
  }
}
