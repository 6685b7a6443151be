import type { TarSpanBytes } from '../build/tar/tar-span-bytes.ts';
import type { Digest } from '../core/digest.ts';
import type { BlobSource } from '../core/sources/blob-source.ts';

declare const AUTHORIZED: unique symbol;

/** A layer as a request or a manifest names it. Nothing is verified: the repository may not have it. */
export interface Layer {
  readonly digest: Digest;
  /** Where its blob comes from if the store does not have it. */
  readonly source: BlobSource;
  /** Compressed size according to the repository's image manifest, which may be wrong. */
  readonly claimedBytes?: number | undefined;
  /** Its repository serves its tar: the build of the index also makes a zTOC over that, with such spans. */
  readonly tarSpanBytes?: (() => Promise<TarSpanBytes>) | undefined;
  /**
   * Called before bytes that another upstream may have sent, or results made from them, are used for this
   * layer: they may have arrived while this layer's upstream was asked.
   * @throws SpandrelError BLOB_UNKNOWN, BLOB_CORRUPT or an UPSTREAM_* code if the upstream of `source` does
   * not have the same bytes
   */
  readonly confirm?: ((signal: AbortSignal | undefined) => Promise<void>) | undefined;
}

/** A layer that its repository was shown to have: the repository may get what is made from the layer. */
export type AuthorizedLayer = Layer & { readonly [AUTHORIZED]: true };

/** Call only after the upstream has shown that the repository has the layer. */
export function markAuthorized(layer: Layer): AuthorizedLayer {
  return layer as AuthorizedLayer;
}

/** A zTOC that is well-formed, but not yet compared with its layer. */
export interface PushedZtoc {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
  /** Reports the result of the comparison. A wrong zTOC is never offered again. */
  judge(problem: string | undefined): Promise<void>;
}
