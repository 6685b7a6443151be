import type { Digest } from '../core/digest.ts';
import type { BlobSource } from '../upstream/blob-source.ts';

/** A layer as far as it is known before its bytes are there. */
export interface Layer {
  readonly digest: Digest;
  /** Where its blob comes from when the store does not have it. */
  readonly source: BlobSource;
  /** Compressed size, from the image manifest. */
  readonly sizeBytes?: number | undefined;
  /** From the image manifest. Only for showing: how the layer is packed, its first bytes tell. */
  readonly mediaType?: string | undefined;
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
