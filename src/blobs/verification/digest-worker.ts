import { extname } from 'node:path';
import type { Worker } from 'node:worker_threads';

import type { Digest, DigestAlgorithm } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { GrowingPause } from '../../threads/growing-pause.ts';
import { KeptThread } from '../../threads/kept-thread.ts';
import type { ThreadFault } from '../../threads/thread-fault.ts';
import type { DigestQuestion, DigestReply, DigestRequest } from './digest-request.ts';
import { Growth } from '../files/growth.ts';
import { isPassingFault } from '../files/store-fault.ts';

/**
 * A running hash in the digest thread. If the thread dies, the hash is lost: it can only be forgotten, and
 * all other calls throw WORKER_FAILED.
 */
export interface RunningHash {
  /** Adds bytes, which are copied. Resolves when they are hashed. */
  update(bytes: Uint8Array): Promise<void>;
  /** `undefined` if the hash was forgotten. */
  digest(): Promise<Digest | undefined>;
  forget(): Promise<void>;
}

type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never;
type Question = WithoutId<DigestQuestion>;

interface Pending {
  readonly worker: Worker;
  readonly resolve: (digest: Digest | undefined) => void;
  readonly reject: (error: Error) => void;
}

export interface DigestWorkerOptions {
  readonly entry?: URL;
  readonly onFault?: (fault: ThreadFault) => void;
}

/** How long a hash is retried when its thread dies, or its file cannot be opened. */
const PATIENCE_MS = 2_000;

/** Computes digests of growing files in one thread, which starts on demand. */
export class DigestWorker implements AsyncDisposable {
  readonly #thread: KeptThread;
  readonly #pending = new Map<number, Pending>();
  #lastId = 0;

  constructor({ entry, onFault }: DigestWorkerOptions = {}) {
    this.#thread = new KeptThread({
      entry: entry ?? new URL(`./digest-request${extname(import.meta.url)}`, import.meta.url),
      kind: 'digest',
      onMessage: (reply) => this.#take(reply as DigestReply),
      onEnd: (worker, error) => this.#failAll(worker, error),
      onFault,
      isBusy: () => this.#pending.size > 0,
    });
  }

  /**
   * Digest of the file at `path`, once `growth` is complete. Before the thread has opened it, the file may be
   * unlinked only if it has another name. If the thread dies, another one starts over.
   * @throws SpandrelError STORE_FAILED if the file cannot be read (the cause has the system's code) or the
   * growth fails, WORKER_FAILED if threads keep dying, SHUTTING_DOWN; the signal's reason
   */
  async hash(
    path: string,
    growth: Growth,
    algorithm: DigestAlgorithm,
    signal?: AbortSignal,
  ): Promise<Digest> {
    const question = { path, growth: growth.shared, algorithm };
    const digest = await this.#persist(() => this.#ask(this.#thread.open(), question, signal), signal);
    if (digest === undefined) throw new Error('the digest thread replied without a digest');
    return digest;
  }

  /**
   * Starts a running hash with the first `prefixBytes` of a file. It must be finished or forgotten.
   * @throws SpandrelError as {@link hash}; so do the methods of the hash
   */
  async begin(algorithm: DigestAlgorithm, path: string, prefixBytes: number): Promise<RunningHash> {
    const hash = ++this.#lastId;
    const { shared } = Growth.complete(prefixBytes);
    const owner = await this.#persist(async () => {
      const worker = this.#thread.open();
      await this.#ask(worker, { path, growth: shared, algorithm, goesOnAs: hash });
      return worker;
    });
    const ask = async (question: Question): Promise<Digest | undefined> => {
      if (this.#thread.running !== owner)
        throw new SpandrelError('WORKER_FAILED', 'the thread of the hash has died');
      return this.#ask(owner, question);
    };
    return {
      update: async (bytes) => {
        await ask({ hash, bytes });
      },
      digest: () => ask({ hash, end: 'digest' }),
      forget: async () => {
        if (this.#thread.running === owner) await ask({ hash, end: 'forget' });
      },
    };
  }

  /** Retries after a temporary failure. */
  async #persist<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const pause = new GrowingPause();
    const giveUpAtMs = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await work();
      } catch (error) {
        if (!isPassingFault(error)) throw error;
        pause.noteFailure();
        const waitMs = Math.max(pause.remainingMs, this.#thread.pauseMs);
        if (performance.now() + waitMs > giveUpAtMs) throw error;
        await this.#thread.over(pause, signal);
      }
    }
  }

  async #ask(worker: Worker, question: Question, signal?: AbortSignal): Promise<Digest | undefined> {
    signal?.throwIfAborted();
    const id = ++this.#lastId;
    const { promise, resolve, reject } = Promise.withResolvers<Digest | undefined>();
    this.#pending.set(id, { worker, resolve, reject });
    worker.ref();
    const onAbort = (): void => {
      this.#pending.delete(id);
      worker.postMessage({ id, cancel: true } satisfies DigestRequest);
      reject(signal?.reason as Error);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    worker.postMessage({ id, ...question });
    try {
      return await promise;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      // Only pending digests keep the process alive.
      if (this.#pending.size === 0) worker.unref();
    }
  }

  #take(reply: DigestReply): void {
    const pending = this.#pending.get(reply.id);
    this.#pending.delete(reply.id);
    if ('digest' in reply) pending?.resolve(reply.digest);
    else if ('hashed' in reply) pending?.resolve(undefined);
    else pending?.reject(hashFailure(reply));
  }

  #failAll(worker: Worker, error: Error): void {
    for (const [id, pending] of this.#pending) {
      if (pending.worker !== worker) continue;
      this.#pending.delete(id);
      pending.reject(error);
    }
  }

  /** Rejects pending digests with SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#thread[Symbol.asyncDispose]();
  }
}

function hashFailure({ failure, code }: { readonly failure: string; readonly code: string }): SpandrelError {
  const cause = Object.assign(new Error(failure), code === '' ? {} : { code });
  return new SpandrelError('STORE_FAILED', `a blob could not be hashed: ${failure}`, { cause });
}
