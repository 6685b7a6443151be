import { createHash } from 'node:crypto';

import { type Digest, finishDigest } from '../core/digest.ts';
import { ByteRing } from './byte-ring.ts';

// The entry of the thread that hashes what another one decompresses: each export is a task of a `WorkerPool`.

export interface HashOutputInput {
  /** Shared memory of a {@link ByteRing}. */
  readonly shared: SharedArrayBuffer;
}

/** Task: the sha256 of what comes through a pipe; `undefined` if another reader has claimed the pipe. */
export function hashOutput({ shared }: HashOutputInput): Digest | undefined {
  const ring = new ByteRing(shared);
  if (!ring.claim()) return undefined;
  const hash = createHash('sha256');
  for (const bytes of ring.read()) hash.update(bytes);
  return finishDigest(hash);
}
