import { extname } from 'node:path';
import { Worker } from 'node:worker_threads';

import type { Digest, DigestAlgorithm } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { WORKER_ARGUMENTS } from '../threads/worker-arguments.ts';
import type { DigestReply, DigestRequest } from './digest-thread.ts';
import { Growth } from './growth.ts';

/** A hash in the digest thread. A thread that breaks takes it along: its digest is then none. */
export interface RunningHash {
  /** Resolves when the bytes, which are copied, have been hashed. */
  update(bytes: Uint8Array): Promise<void>;
  digest(): Promise<Digest | undefined>;
  forget(): Promise<void>;
}

type WithoutId<T> = T extends unknown ? Omit<T, 'id'> : never;
type Question = WithoutId<Exclude<DigestRequest, { cancel: true }>>;

interface Pending {
  readonly worker: Worker;
  readonly resolve: (digest: Digest | undefined) => void;
  readonly reject: (error: Error) => void;
}

/** Computes digests of files while they grow, in one thread that starts when it is first needed. */
export class DigestWorker implements AsyncDisposable {
  readonly #entry: URL;
  readonly #pending = new Map<number, Pending>();
  #worker: Worker | undefined;
  #lastId = 0;
  #disposed = false;

  constructor(entry = new URL(`./digest-thread${extname(import.meta.url)}`, import.meta.url)) {
    this.#entry = entry;
  }

  /**
   * Digest of the file at `path`, once `growth` is complete. The file may be unlinked after the promise is made only if it stays
   * under another name until the thread has opened it.
   * @throws SpandrelError STORE_FAILED if the file cannot be read (its cause is then as the system's), the growth fails or the
   * thread breaks; the signal's reason
   */
  async hash(
    path: string,
    growth: Growth,
    algorithm: DigestAlgorithm,
    signal?: AbortSignal,
  ): Promise<Digest> {
    const digest = await this.#ask({ path, growth: growth.shared, algorithm }, signal);
    if (digest === undefined) throw new Error('the digest thread answers a file with its digest');
    return digest;
  }

  /**
   * A hash that bytes are added to, which begins with the first `prefixBytes` of a file. End it in either way.
   * @throws SpandrelError STORE_FAILED if the file cannot be read; this holds for the methods of the hash too
   */
  async begin(algorithm: DigestAlgorithm, path: string, prefixBytes: number): Promise<RunningHash> {
    const hash = ++this.#lastId;
    await this.#ask({ path, growth: Growth.complete(prefixBytes).shared, algorithm, goesOnAs: hash });
    return {
      update: async (bytes) => {
        await this.#ask({ hash, bytes });
      },
      digest: () => this.#ask({ hash, end: 'digest' }),
      forget: async () => {
        await this.#ask({ hash, end: 'forget' });
      },
    };
  }

  async #ask(question: Question, signal?: AbortSignal): Promise<Digest | undefined> {
    signal?.throwIfAborted();
    if (this.#disposed) throw new SpandrelError('SHUTTING_DOWN', 'the digest thread has been stopped');
    const worker = (this.#worker ??= this.#start());
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
      if (this.#pending.size === 0) worker.unref();
    }
  }

  #start(): Worker {
    const worker = new Worker(this.#entry, { name: 'digests', execArgv: [...WORKER_ARGUMENTS] });
    worker.on('message', (reply: DigestReply) => {
      const pending = this.#pending.get(reply.id);
      this.#pending.delete(reply.id);
      if ('digest' in reply) pending?.resolve(reply.digest);
      else if ('hashed' in reply) pending?.resolve(undefined);
      else pending?.reject(hashFailure(reply));
    });
    worker.on('error', (error) =>
      this.#failAll(worker, new SpandrelError('STORE_FAILED', 'the digest thread broke', { cause: error })),
    );
    worker.on('exit', () =>
      this.#failAll(worker, new SpandrelError('STORE_FAILED', 'the digest thread ended')),
    );
    // Only a digest that somebody waits for keeps the process alive.
    worker.unref();
    return worker;
  }

  /** The next hash starts another thread, whose digests are not touched when the broken one then exits. */
  #failAll(worker: Worker, error: Error): void {
    if (this.#worker === worker) this.#worker = undefined;
    for (const [id, pending] of this.#pending) {
      if (pending.worker !== worker) continue;
      this.#pending.delete(id);
      pending.reject(error);
    }
  }

  /** Pending digests fail with STORE_FAILED. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#disposed = true;
    await this.#worker?.terminate();
  }
}

function hashFailure({ failure, code }: { readonly failure: string; readonly code: string }): SpandrelError {
  const cause = Object.assign(new Error(failure), code === '' ? {} : { code });
  return new SpandrelError('STORE_FAILED', `a blob could not be hashed: ${failure}`, { cause });
}
