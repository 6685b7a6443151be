import { createHash } from 'node:crypto';
import { extname } from 'node:path';
import { MessageChannel, type MessagePort, type Worker } from 'node:worker_threads';

import { type Digest, finishDigest } from '../core/digest.ts';
import { isSpandrelError } from '../core/errors.ts';
import { KeptThread } from '../threads/kept-thread.ts';
import type { ThreadFault } from '../threads/thread-fault.ts';
import { ByteRing } from './byte-ring.ts';
import type { OutputHashRequest } from './output-hash-worker.ts';

/** Computes the sha256 of what a layer decompresses to. */
export interface OutputHash extends Disposable {
  /** `bytes` may be reused afterwards. @throws SpandrelError WORKER_FAILED if a thread has died */
  update(bytes: Uint8Array): void;
  /** Of all there was; comes last. @throws SpandrelError WORKER_FAILED if a thread has died */
  digest(): Promise<Digest>;
}

/** Layers of fewer compressed bytes are hashed before a thread has started. */
const MIN_THREADED_BYTES = 4 * 2 ** 20;
/** A thread that does not come in this time gets nothing to do. */
const START_PATIENCE_MS = 1_000;

export interface OutputHashesOptions {
  readonly entry?: URL;
  readonly onFault?: (fault: ThreadFault) => void;
}

/**
 * Hashes what a worker thread decompresses, of large layers in a thread of its own beside it, which starts when it is first needed and
 * stays. One layer at a time: each thread that builds has its own. Where that cannot start, the caller hashes.
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

  /** @param layerBytes size of the blob. The hash is to be disposed of. */
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

/** Hashes in the thread that calls. */
export function hashHere(): OutputHash {
  const hash = createHash('sha256');
  return {
    update: (bytes) => hash.update(bytes),
    digest: () => Promise.resolve(finishDigest(hash)),
    [Symbol.dispose]: () => undefined,
  };
}

/** Hashes in another thread, unless that does not come: then in the one that calls. */
class ThreadHash implements OutputHash {
  readonly worker: Worker;
  readonly #ring = new ByteRing();
  readonly #port: MessagePort;
  readonly #digest = Promise.withResolvers<Digest>();
  readonly #onOver: () => void;
  #here: OutputHash | undefined;
  #loss: Error | undefined;

  constructor(worker: Worker, onOver: () => void) {
    this.worker = worker;
    this.#onOver = onOver;
    this.#digest.promise.catch(() => undefined);
    // Of its own, so that what an abandoned hash comes to is nobody's.
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

  /** The thread has died. What it had not begun is not lost. */
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
    this.#onOver();
  }
}
