import type { ByteRange } from '../core/byte-range.ts';

/** One blob of one repository of an upstream, as a fill sees it. What `RegistryClient.blobSource` returns. */
export interface BlobSource {
  /** Upstream and repository: work for one of them does not have to wait behind all the work for another. */
  readonly origin?: string;
  /**
   * Ask for the bytes of `range`, or for the whole blob.
   * @throws SpandrelError BLOB_UNKNOWN or an UPSTREAM_* code; the caller decides about a retry
   */
  fetch(range: ByteRange | undefined, signal: AbortSignal): Promise<BlobResponse>;
}

export interface BlobResponse {
  /** What `body` holds; the whole blob where the upstream ignored the range it was asked for. */
  readonly range: ByteRange;
  /** Size of the whole blob. */
  readonly totalBytes: number;
  /** Must be read to its end or destroyed. Yields exactly the bytes of `range` or throws UPSTREAM_PROTOCOL. */
  readonly body: AsyncIterable<Buffer>;
}
