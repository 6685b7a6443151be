import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { extname, join } from 'node:path';
import { MessageChannel } from 'node:worker_threads';

import { WorkQueue } from '../core/work/work-queue.ts';
import type { LayerFileIndex, LayerIndexing } from '../build/index-layer-file.ts';
import type * as layerFileTasks from '../build/layer-file-worker.ts';
import { sendLayer } from '../build/send-layer.ts';
import { WorkerPool } from '../threads/worker-pool.ts';
import type { Target } from '../upstream/target.ts';
import type { Pause } from '../upstream/transport/backoff-ms.ts';
import { readBlob } from './read-blob.ts';
import type { RemoteLayer } from './registry-image.ts';

export interface RemoteLayerIndexerOptions extends Pick<LayerIndexing, 'engine' | 'limits' | 'spanBytes'> {
  /** Layers that are indexed at the same time. */
  readonly threads: number;
  /** As {@link readBlob} has them. */
  readonly retries: number;
  readonly pause: Pause;
  readonly signal: AbortSignal;
  /** Called with the size of each layer, which may wait for a thread then. */
  readonly onLayer: (bytes: number) => void;
  /** Called with numbers of bytes as they are read. */
  readonly onProgress: (bytes: number) => void;
}

/** More than the layers of any image. */
const MAX_WAITING = 100_000;

/**
 * Indexes layers while they stream from a registry, in threads. Of a layer only the windows of its
 * checkpoints are on disk, in a temporary folder, until it is done.
 */
export class RemoteLayerIndexer implements AsyncDisposable {
  readonly #options: RemoteLayerIndexerOptions;
  readonly #folder: string;
  readonly #pool: WorkerPool<typeof layerFileTasks>;
  /** A download starts when a thread is free for it. */
  readonly #turns: WorkQueue;
  #layers = 0;

  private constructor(options: RemoteLayerIndexerOptions, folder: string) {
    this.#options = options;
    this.#folder = folder;
    const { threads } = options;
    const entry = new URL(`../build/layer-file-worker${extname(import.meta.url)}`, import.meta.url);
    this.#pool = new WorkerPool({ name: 'index', entry, threads, maxQueue: MAX_WAITING });
    this.#turns = new WorkQueue({ maxRunning: threads, maxWaiting: MAX_WAITING });
  }

  static async open(options: RemoteLayerIndexerOptions): Promise<RemoteLayerIndexer> {
    return new RemoteLayerIndexer(options, await mkdtemp(join(tmpdir(), 'spandrel-publish-')));
  }

  /** @throws SpandrelError BLOB_CORRUPT, LAYER_*, UPSTREAM_*; the reason of the signal */
  indexLayer(target: Target, layer: RemoteLayer): Promise<LayerFileIndex> {
    this.#options.onLayer(layer.size);
    return this.#turns.run(() => this.#index(target, layer), this.#options.signal);
  }

  async #index({ client, repository }: Target, { digest, size }: RemoteLayer): Promise<LayerFileIndex> {
    const { engine, limits, spanBytes, retries, pause, signal, onProgress } = this.#options;
    const { port1, port2 } = new MessageChannel();
    const scratchPath = join(this.#folder, `layer-${++this.#layers}`);
    const indexing = { digest, engine, limits, spanBytes, scratchPath };
    const bytes = readBlob(client.blobSource(repository, digest), {
      sizeBytes: size,
      retries,
      pause,
      signal,
    });
    try {
      const task = { ...indexing, layerBytes: size, port: port2 };
      const indexed = this.#pool.tasks.indexStreamedLayer(task, { transfer: [port2] });
      // A download that fails makes the task fail too, with less to say.
      const [sent, found] = await Promise.allSettled([sendLayer(bytes, port1, onProgress), indexed]);
      if (sent.status === 'rejected') throw sent.reason;
      if (found.status === 'rejected') throw found.reason;
      return found.value;
    } finally {
      port1.close();
    }
  }

  /** Ends the threads, and removes the temporary folder. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#pool[Symbol.asyncDispose]();
    await rm(this.#folder, { recursive: true, force: true });
  }
}
