import type { BlobResponse } from './blob-source.ts';
import type { ByteRange } from '../byte-range.ts';
import type { Digest } from '../digest.ts';

/** A blob that a fill fetches. */
export interface TierBlob {
  readonly digest: Digest;
  /** Name of the upstream, and the repository of the request that started the fill. */
  readonly upstream: string;
  readonly repository: string;
}

/** How a fill ended. `wrong`: its bytes, some of them from the tier, do not have the digest. */
export type TierOutcome = 'complete' | 'stopped' | 'failed' | 'wrong';

/**
 * A place besides the upstream where the bytes of a blob may be: another replica, the object store. A fill
 * asks its tiers in order before it asks the upstream. Whether the repository has the blob is decided before.
 */
export interface BlobTier {
  readonly name: 'peer' | 's3';
  /**
   * Requests bytes as {@link BlobSource.fetch} does.
   * @returns `undefined` if the tier does not have the blob, or does not respond in time: the fill asks the
   * next one
   * @throws the reason of `signal` only. A body that breaks off throws UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT
   * or UPSTREAM_PROTOCOL; the fill then asks for the missing bytes again
   */
  fetch(
    blob: TierBlob,
    range: ByteRange | undefined,
    signal: AbortSignal,
    sizeBytes?: number,
  ): Promise<BlobResponse | undefined>;
  /**
   * No tier sends what was requested: the upstream is read now.
   * @returns to be called when this reading has ended. Must not throw, nor the returned function
   */
  upstreamRead?(blob: TierBlob): () => void;
  /**
   * The fill is over. Called once after its last `fetch`. After `complete` the blob is in the store. Must not
   * throw.
   */
  ended(blob: TierBlob, outcome: TierOutcome): void;
  /** Size of the blob in bytes; `undefined` as for `fetch`. @throws the reason of `signal` only */
  size?(digest: Digest, upstream: string, signal: AbortSignal): Promise<number | undefined>;
  /**
   * Somebody reads the blob, which is in the store. A tier that outlives the store takes a copy, if it has
   * none. Cheap: called each time. Must not throw.
   */
  used?(digest: Digest, upstream: string): void;
}
