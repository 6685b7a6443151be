import type { ByteRange } from '../../core/byte-range.ts';

/** One blob of one repository of an upstream, as a fill sees it. What `RegistryClient.blobSource` returns. */
export interface BlobSource {
  /** Upstream and repository: work for one of them does not have to wait behind all the work for another. */
  readonly origin?: string | undefined;
  /** Name of the upstream: until their digest has been verified, its bytes are for nobody else's repositories. */
  readonly upstream?: string | undefined;
  /**
   * Ask for the bytes of `range`, or for the whole blob. `sizeBytes` is what the blob's size is believed to be: it helps where the
   * upstream does not tell, or tells something else with each answer.
   * @throws SpandrelError BLOB_UNKNOWN or an UPSTREAM_* code; the caller decides about a retry
   */
  fetch(range: ByteRange | undefined, signal: AbortSignal, sizeBytes?: number): Promise<BlobResponse>;
}

export interface BlobResponse {
  /**
   * What `body` holds. It begins where the range that was asked for begins, and may end before that; or it is the whole blob, where the
   * upstream has no ranges.
   */
  readonly range: ByteRange;
  /** Size of the whole blob: of this answer, or what it is believed to be where the answer does not tell. */
  readonly totalBytes: number;
  /** As {@link TransportResponse.isUnproven}. */
  readonly isUnproven?: boolean | undefined;
  /** Must be read to its end or destroyed. Yields exactly the bytes of `range` or throws UPSTREAM_PROTOCOL. */
  readonly body: AsyncIterable<Buffer>;
}
