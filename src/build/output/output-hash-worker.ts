import { ByteRing } from './byte-ring.ts';
import { type OutputDigests, OutputHasher } from './output-digests.ts';

// The entry of the thread that hashes what another one decompresses: each export is a task of a `WorkerPool`.

export interface HashOutputInput {
  /** Shared memory of a {@link ByteRing}. */
  readonly shared: SharedArrayBuffer;
  /** Also hash slices of these sizes. */
  readonly spanSizes: readonly number[];
}

/** Task: the digests of what comes through a pipe; `undefined` if another reader has claimed the pipe. */
export function hashOutput({ shared, spanSizes }: HashOutputInput): OutputDigests | undefined {
  const ring = new ByteRing(shared);
  if (!ring.claim()) return undefined;
  const hasher = new OutputHasher(spanSizes);
  for (const bytes of ring.read()) hasher.update(bytes);
  return hasher.finish();
}
