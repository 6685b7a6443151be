import { extname } from 'node:path';

import { SpandrelError } from '../../core/errors.ts';
import type { ThreadFault } from '../../threads/thread-fault.ts';
import { WorkerPool } from '../../threads/worker-pool.ts';
import { ByteRing } from './byte-ring.ts';
import { type OutputDigests, OutputHasher } from './output-digests.ts';
import type * as outputHashTasks from './output-hash-worker.ts';

/** Computes the digests of what a layer decompresses to. */
export interface OutputHash extends Disposable {
  /** `bytes` may be reused afterwards. @throws SpandrelError WORKER_FAILED if a thread has died */
  update(bytes: Uint8Array): void;
  /** Of all bytes; comes last. @throws SpandrelError WORKER_FAILED if a thread has died */
  digests(): Promise<OutputDigests>;
}

/** Layers of fewer compressed bytes are hashed before a thread has started. */
const MIN_THREADED_BYTES = 4 * 2 ** 20;
/** A thread that does not start in this time gets nothing to do. */
const START_PATIENCE_MS = 1_000;
/** Layers that were given up while the thread did not start. */
const MAX_WAITING = 100;

export interface OutputHashesOptions {
  readonly entry?: URL;
  readonly onFault?: (fault: ThreadFault) => void;
}

/**
 * Hashes what a worker thread decompresses. Output of large layers is hashed in another thread beside it,
 * which starts when it is first needed and stays. One layer at a time: each thread that builds has its own.
 */
export class OutputHashes implements AsyncDisposable {
  readonly #pool: WorkerPool<typeof outputHashTasks>;

  constructor({ entry, onFault }: OutputHashesOptions = {}) {
    this.#pool = new WorkerPool<typeof outputHashTasks>({
      entry: entry ?? new URL(`./output-hash-worker${extname(import.meta.url)}`, import.meta.url),
      name: 'output',
      threads: 1,
      maxQueue: MAX_WAITING,
      onFault,
    });
  }

  /**
   * A hash for the output of a layer, to be disposed of. If the thread does not start in time, the caller
   * hashes.
   * @param layerBytes size of the blob
   * @param spanSizes also hash slices of these sizes
   */
  async begin(layerBytes: number, spanSizes: readonly number[] = []): Promise<OutputHash> {
    if (layerBytes < MIN_THREADED_BYTES) return hashHere(spanSizes);
    const ring = new ByteRing();
    const digests = this.#pool.tasks.hashOutput({ shared: ring.shared, spanSizes });
    const failed = digests.then(ignore, ignore);
    await Promise.race([ring.waitForReader(START_PATIENCE_MS), failed]);
    return ring.claim() ? hashHere(spanSizes) : new ThreadHash(ring, digests);
  }

  /** Ends the thread. A hash that is begun there fails. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]();
  }
}

/** Hashes in the thread that calls. */
export function hashHere(spanSizes: readonly number[] = []): OutputHash {
  const hasher = new OutputHasher(spanSizes);
  return {
    update: (bytes) => hasher.update(bytes),
    digests: () => Promise.resolve(hasher.finish()),
    [Symbol.dispose]: () => undefined,
  };
}

/** Hashes in another thread, which reads the ring. */
class ThreadHash implements OutputHash {
  readonly #ring: ByteRing;
  readonly #digests: Promise<OutputDigests | undefined>;
  #failure: Error | undefined;

  constructor(ring: ByteRing, digests: Promise<OutputDigests | undefined>) {
    this.#ring = ring;
    this.#digests = digests;
    digests.catch((error: Error) => (this.#failure = error));
  }

  update(bytes: Uint8Array): void {
    if (this.#failure !== undefined) throw this.#failure;
    this.#ring.write(bytes);
  }

  async digests(): Promise<OutputDigests> {
    this.#ring.end();
    const digests = await this.#digests;
    if (digests === undefined) throw new SpandrelError('INTERNAL', 'the output of a layer has two readers');
    return digests;
  }

  [Symbol.dispose](): void {
    this.#ring.end();
  }
}

function ignore(): void {
  // `ThreadHash` reports a failure.
}
