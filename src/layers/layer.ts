import type { Digest } from '../core/digest.ts';
import type { BlobSource } from '../upstream/blobs/blob-source.ts';

declare const HELD: unique symbol;

/** A layer as somebody names it. It is as far known as it can be before its bytes are there, and need not be in the repository at all. */
export interface Layer {
  readonly digest: Digest;
  /** Where its blob comes from when the store does not have it. */
  readonly source: BlobSource;
  /** Compressed size as the repository's image manifest has it, which need not be true. */
  readonly claimedBytes?: number | undefined;
  /**
   * Called before what another upstream may have sent is used for this layer, or what was made of that: it may have come while the upstream
   * of this one was asked.
   * @throws SpandrelError BLOB_UNKNOWN, BLOB_CORRUPT, an UPSTREAM_* code if the upstream of `source` does not send the same
   */
  readonly confirm?: ((signal: AbortSignal | undefined) => Promise<void>) | undefined;
}

/** A layer that its repository has, as its upstream has shown: what is made of the layer may be given to that repository. */
export type HeldLayer = Layer & { readonly [HELD]: true };

/** To be called only where the upstream has shown that. */
export function heldLayer(layer: Layer): HeldLayer {
  return layer as HeldLayer;
}

/** A zTOC that has been found well-formed, though not yet right. */
export interface PushedZtoc {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
  /** What the layer's bytes say of it. One that is wrong is never offered again. */
  judge(problem: string | undefined): Promise<void>;
}
