import { MessageChannel } from 'node:worker_threads';

import { sendLayer } from '../../build/send-layer.ts';
import type { WorkerPool } from '../../threads/worker-pool.ts';
import type * as bootTasks from './boot-worker.ts';
import type { PackOutcome } from './boot-worker.ts';

/** Threads that make boot layers. */
export type BootPool = WorkerPool<typeof bootTasks>;

/**
 * Compresses the tar of a boot layer in a thread, and reads no more of it once the limit is exceeded.
 * @throws SpandrelError WORKER_FAILED, OVERLOADED; errors of `tar`
 */
export async function packBootTar(
  pool: BootPool,
  tar: AsyncIterable<Uint8Array>,
  maxBytes: number,
  fairnessKey?: string,
): Promise<PackOutcome> {
  const { port1, port2 } = new MessageChannel();
  try {
    const packing = pool.tasks.packLayer({ port: port2, maxBytes }, { transfer: [port2], fairnessKey });
    // The thread fails too if the tar does not arrive: then the cause is what counts.
    packing.catch(() => port1.close());
    await sendLayer(tar, port1, () => undefined);
    return await packing;
  } finally {
    port1.close();
  }
}
