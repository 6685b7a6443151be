import { createHash } from 'node:crypto';
import { extname } from 'node:path';
import { MessageChannel, Worker } from 'node:worker_threads';

import { type Digest, finishDigest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import { WORKER_ARGUMENTS } from '../threads/worker-arguments.ts';
import { ByteRing } from './byte-ring.ts';
import type { OutputHashRequest } from './output-hash-thread.ts';

/** Computes the sha256 of what a layer decompresses to. */
export interface OutputHash extends Disposable {
  /** `bytes` may be reused afterwards. @throws SpandrelError INTERNAL if a thread has broken */
  update(bytes: Uint8Array): void;
  /** Of all there was; comes last. @throws SpandrelError INTERNAL if a thread has broken */
  digest(): Promise<Digest>;
}

/** Layers of fewer compressed bytes are hashed before a thread has started. */
const MIN_THREADED_BYTES = 4 * 2 ** 20;

/**
 * Hashes what a worker thread decompresses, of large layers in a thread of its own beside it, which starts when it is first needed and
 * stays. One layer at a time: each thread that builds has its own.
 */
export class OutputHashes {
  #worker: Worker | undefined;

  /** @param layerBytes size of the blob. The hash is to be disposed of. */
  begin(layerBytes: number): OutputHash {
    if (layerBytes < MIN_THREADED_BYTES) return hashHere();
    return hashThere((this.#worker ??= this.#start()));
  }

  #start(): Worker {
    const entry = new URL(`./output-hash-thread${extname(import.meta.url)}`, import.meta.url);
    const worker = new Worker(entry, { name: 'diff ids', execArgv: [...WORKER_ARGUMENTS] });
    worker.once('exit', () => (this.#worker = undefined));
    // It must not keep the thread that builds from ending.
    worker.unref();
    return worker;
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

function hashThere(worker: Worker): OutputHash {
  const ring = new ByteRing();
  const { promise, resolve, reject } = Promise.withResolvers<Digest>();
  promise.catch(() => undefined);
  // Of its own, so that what an abandoned hash comes to is nobody's.
  const { port1: port, port2 } = new MessageChannel();
  const onError = (cause: unknown): void =>
    reject(new SpandrelError('INTERNAL', 'a thread that hashes broke', { cause }));
  port.once('message', resolve);
  worker.once('error', onError);
  worker.postMessage({ shared: ring.shared, port: port2 } satisfies OutputHashRequest, [port2]);
  return {
    update: (bytes) => ring.write(bytes),
    digest: () => {
      ring.end();
      return promise;
    },
    [Symbol.dispose]: () => {
      ring.end();
      port.close();
      worker.off('error', onError);
    },
  };
}
