import { createHash } from 'node:crypto';
import { extname } from 'node:path';
import { MessageChannel, type MessagePort, type Worker } from 'node:worker_threads';

import { type Digest, finishDigest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import { KeptThread } from '../threads/kept-thread.ts';
import type { ThreadFault } from '../threads/thread-fault.ts';
import { ByteRing } from './byte-ring.ts';
import type { OutputHashRequest } from './output-hash-worker.ts';

/** Computes the sha256 of the decompressed layer. */
export interface OutputHash extends Disposable {
  /**
   * `bytes` may be reused afterwards.
   * @throws SpandrelError WORKER_FAILED if a thread has died
   */
  update(bytes: Uint8Array): void;
  /**
   * The digest of all bytes; the last call.
   * @throws SpandrelError WORKER_FAILED if a thread has died
   */
  digest(): Promise<Digest>;
}

/** Smaller layers are hashed sooner than a thread can start. */
const MIN_THREADED_BYTES = 4 * 2 ** 20;
/** If the thread has not started by then, the caller hashes. */
const START_PATIENCE_MS = 1_000;

export interface OutputHashesOptions {
  readonly entry?: URL;
  readonly onFault?: (fault: ThreadFault) => void;
}

/**
 * Hashes decompressed layers. For large layers it uses a thread beside the caller, which starts when it is
 * first needed and then stays. One layer at a time: each building thread has its own instance. If the thread
 * cannot start, the caller hashes.
 */
export class OutputHashes {
  readonly #thread: KeptThread;
  readonly #running = new Set<ThreadHash>();

  constructor({ entry, onFault }: OutputHashesOptions = {}) {
    this.#thread = new KeptThread({
      entry: entry ?? new URL(`./output-hash-worker${extname(import.meta.url)}`, import.meta.url),
      kind: 'output',
      onEnd: (worker, error) => {
        for (const hash of this.#running) if (hash.worker === worker) hash.lose(error);
      },
      onFault,
      isBusy: () => this.#running.size > 0,
    });
  }

  /**
   * @param layerBytes size of the blob
   * @returns the hash, which the caller disposes of
   */
  begin(layerBytes: number): OutputHash {
    const worker = layerBytes < MIN_THREADED_BYTES ? undefined : this.#open();
    if (worker === undefined) return hashHere();
    const hash = new ThreadHash(worker, () => this.#running.delete(hash));
    this.#running.add(hash);
    return hash;
  }

  #open(): Worker | undefined {
    try {
      return this.#thread.open();
    } catch (error) {
      if (!isSpandrelError(error, 'WORKER_FAILED')) throw error;
      return undefined;
    }
  }
}

/** Hashes in the calling thread. */
export function hashHere(): OutputHash {
  const hash = createHash('sha256');
  return {
    update: (bytes) => hash.update(bytes),
    digest: () => Promise.resolve(finishDigest(hash)),
    [Symbol.dispose]: () => undefined,
  };
}

/** Hashes in another thread, or in the calling thread if that one does not start in time. */
class ThreadHash implements OutputHash {
  readonly worker: Worker;
  readonly #ring = new ByteRing();
  readonly #port: MessagePort;
  readonly #digest = Promise.withResolvers<Digest>();
  readonly #onDisposed: () => void;
  #here: OutputHash | undefined;
  #loss: Error | undefined;

  constructor(worker: Worker, onDisposed: () => void) {
    this.worker = worker;
    this.#onDisposed = onDisposed;
    this.#digest.promise.catch(() => undefined);
    // A channel per hash, so that the result of an abandoned one reaches nobody.
    const { port1, port2 } = new MessageChannel();
    this.#port = port1;
    port1.once('message', (digest: Digest) => this.#digest.resolve(digest));
    worker.postMessage({ shared: this.#ring.shared, port: port2 } satisfies OutputHashRequest, [port2]);
  }

  update(bytes: Uint8Array): void {
    if (this.#here === undefined && !this.#ring.hasRoomFor(bytes.byteLength)) {
      this.#ring.waitForReader(START_PATIENCE_MS);
      this.#hashHereIfAlone();
    }
    if (this.#loss !== undefined) throw this.#loss;
    if (this.#here === undefined) this.#ring.write(bytes);
    else this.#here.update(bytes);
  }

  digest(): Promise<Digest> {
    this.#ring.end();
    this.#hashHereIfAlone();
    return this.#here?.digest() ?? this.#digest.promise;
  }

  /** Call when the thread has died. If it had not started on this hash, the caller takes over. */
  lose(error: Error): void {
    this.#hashHereIfAlone();
    if (this.#here !== undefined) return;
    this.#loss = error;
    this.#digest.reject(error);
  }

  #hashHereIfAlone(): void {
    if (this.#here !== undefined || !this.#ring.claim()) return;
    this.#here = hashHere();
    for (const bytes of this.#ring.readAvailable()) this.#here.update(bytes);
  }

  [Symbol.dispose](): void {
    this.#ring.end();
    this.#port.close();
    this.#onDisposed();
  }
}
