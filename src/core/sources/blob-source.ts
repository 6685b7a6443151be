import type { ByteRange } from '../byte-range.ts';

/**
 * A blob of one repository of an upstream, as fills use it. {@link RegistryClient.blobSource} returns one.
 */
export interface BlobSource {
  /** Upstream and repository: the fairness key of the blob's fill. */
  readonly repositoryKey?: string | undefined;
  /**
   * Name of the upstream. Until the digest is verified, the bytes are served to repositories of this upstream
   * only.
   */
  readonly upstream?: string | undefined;
  /** The request came from another replica: it is not passed on to a third one. */
  readonly isForReplica?: boolean | undefined;
  /**
   * Requests the bytes of `range`, or the whole blob. `sizeBytes` is the assumed size of the blob; it is used
   * if the upstream does not send one, or sends different ones.
   * @throws SpandrelError BLOB_UNKNOWN or an UPSTREAM_* code; the caller decides about a retry
   */
  fetch(range: ByteRange | undefined, signal: AbortSignal, sizeBytes?: number): Promise<BlobResponse>;
}

export interface BlobResponse {
  /**
   * The bytes that `body` holds. Starts where the requested range starts, and may end earlier; or it is the
   * whole blob, if the upstream does not support ranges.
   */
  readonly range: ByteRange;
  /** Size of the whole blob: as the response says, else the assumed one. */
  readonly totalBytes: number;
  /** As {@link TransportResponse.isUnproven}. */
  readonly isUnproven?: boolean | undefined;
  /**
   * Must be read to its end or destroyed. Yields exactly the bytes of `range` or throws UPSTREAM_PROTOCOL.
   */
  readonly body: AsyncIterable<Buffer>;
}
