import { createHash } from 'node:crypto';
import { type MessagePort, parentPort } from 'node:worker_threads';

import { finishDigest } from '../core/digest.ts';
import { ByteRing } from './byte-ring.ts';

/** Asks the thread to hash the bytes of a pipe and to send the digest. */
export interface OutputHashRequest {
  /** Memory of a {@link ByteRing}. */
  readonly shared: SharedArrayBuffer;
  readonly port: MessagePort;
}

parentPort?.on('message', ({ shared, port }: OutputHashRequest) => {
  const ring = new ByteRing(shared);
  if (ring.claim()) {
    const hash = createHash('sha256');
    for (const bytes of ring.read()) hash.update(bytes);
    port.postMessage(finishDigest(hash), []);
  }
  port.close();
});
parentPort?.postMessage('ready', []);
