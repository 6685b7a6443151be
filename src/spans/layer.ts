import type { Digest } from '../core/digest.ts';
import type { BlobSource } from '../upstream/blob-source.ts';

/** A layer as far as it is known before its bytes are there. */
export interface Layer {
  readonly digest: Digest;
  /** Where its blob comes from when the store does not have it. */
  readonly source: BlobSource;
  /** Compressed size as the repository's image manifest has it, which need not be true. */
  readonly claimedBytes?: number | undefined;
  /** Look for a zTOC that somebody else has made of it; asked only when there is an index to build. Never rejects. */
  readonly findPushedZtoc?: (() => Promise<PushedZtoc | undefined>) | undefined;
}

/** A zTOC that has been found well-formed, though not yet right. */
export interface PushedZtoc {
  readonly digest: Digest;
  readonly bytes: Uint8Array;
  /** It is not what the layer's bytes say: never offer it again. */
  refuse(reason: string): Promise<void>;
}
