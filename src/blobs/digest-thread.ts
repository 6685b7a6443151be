import { open } from 'node:fs/promises';
import { parentPort } from 'node:worker_threads';

import type { Digest, DigestAlgorithm } from '../core/digest.ts';
import { createHash } from 'node:crypto';
import { Growth } from './growth.ts';

/** To the thread: hash a growing file, or stop doing so. */
export type DigestRequest =
  | {
      readonly id: number;
      readonly path: string;
      readonly growth: SharedArrayBuffer;
      readonly algorithm: DigestAlgorithm;
    }
  | { readonly id: number; readonly cancel: true };

/** From the thread. A growth that fails has no digest. */
export type DigestReply = { readonly id: number } & (
  { readonly digest: Digest } | { readonly failure: string }
);

const READ_BYTES = 2 ** 20;

const cancelled = new Set<number>();
const port = parentPort;

/** Hashes run side by side: while one waits for its file, the others go on. */
port?.on('message', (request: DigestRequest) => {
  if ('cancel' in request) {
    cancelled.add(request.id);
    return;
  }
  void hashGrowingFile(request)
    .then(
      (digest): DigestReply => ({ id: request.id, digest }),
      (error: unknown): DigestReply => ({
        id: request.id,
        failure: error instanceof Error ? error.message : String(error),
      }),
    )
    .then((reply) => {
      cancelled.delete(request.id);
      port.postMessage(reply);
    });
});

async function hashGrowingFile({
  id,
  path,
  growth: shared,
  algorithm,
}: Exclude<DigestRequest, { cancel: true }>): Promise<Digest> {
  const growth = new Growth(shared);
  const hash = createHash(algorithm);
  const file = await open(path, 'r');
  try {
    const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
    for (let position = 0; ;) {
      await growth.waitBeyond(position);
      if (cancelled.has(id)) throw new Error('cancelled');
      // The state first: what is available when the growth has ended is all there will be.
      const { state, availableBytes } = growth;
      if (state === 'failed') throw new Error('the file will not be completed');
      if (position === availableBytes) {
        if (state === 'complete') return `${algorithm}:${hash.digest('hex')}` as Digest;
        continue;
      }
      const { bytesRead } = await file.read(
        buffer,
        0,
        Math.min(READ_BYTES, availableBytes - position),
        position,
      );
      if (bytesRead === 0) throw new Error('the file is shorter than announced');
      hash.update(buffer.subarray(0, bytesRead));
      position += bytesRead;
    }
  } finally {
    await file.close();
  }
}
