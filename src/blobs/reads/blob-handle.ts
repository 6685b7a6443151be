import type { BlobTier } from '../../core/sources/blob-tier.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import type { SpandrelError } from '../../core/errors.ts';
import type { ProvenBytes } from '../../core/proven-bytes.ts';
import type { Growth } from '../files/growth.ts';
import type { StoredBlob } from '../files/store-budget.ts';

/** Bytes in an open file; other threads of the process can read them by its descriptor. */
export interface FileRange {
  readonly fd: number;
  readonly range: ByteRange;
}

/** A blob that can be read at any position. Dispose of it when done. */
export interface BlobReader extends AsyncDisposable {
  readonly digest: Digest;
  readonly sizeBytes: ProvenBytes;
  /**
   * Source of the bytes: `disk` if the blob is complete and verified; while it arrives the tier that sent the
   * latest of them, or `fill` for the upstream; `upstream` if the store cannot take it.
   */
  readonly source: 'disk' | 'fill' | 'upstream' | BlobTier['name'];
  /**
   * Streams `range` in order. Waits for missing bytes, which the fill fetches first. The caller owns the
   * buffers. Reads wait only for bytes of the range, with one exception: a reader of the whole blob gets its
   * end only when the digest is verified. Several reads may run at once.
   * @throws SpandrelError RANGE_INVALID if the range passes the end; BLOB_CORRUPT or an UPSTREAM_* code if
   * the bytes are not available
   */
  read(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined>;
  /**
   * As {@link read}, from buffers that readers share: each is valid only until the next one is requested, and
   * must not be modified.
   */
  readShared(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined>;
  /**
   * Location of `range` in a file, once all of it has arrived. The descriptor is open as long as the blob is.
   * `undefined` if the store cannot take the blob. If the file cannot be read, {@link read} still works.
   * @throws SpandrelError as `read`
   */
  locate(range: ByteRange, signal?: AbortSignal): Promise<FileRange | undefined>;
}

/**
 * An open blob in a file, complete or arriving. It cannot be evicted. A fill that must complete its blob goes
 * on after its handles are disposed of.
 */
export interface BlobHandle extends BlobReader {
  readonly source: 'disk' | 'fill' | BlobTier['name'];
  /** The store's entry of the blob when it was opened; `undefined` while the blob arrives. */
  readonly stored: StoredBlob | undefined;
  /**
   * The file has been found not to match the digest. Reads throw STORE_FAILED, or BLOB_CORRUPT for a fill;
   * bytes that were read before may be wrong.
   */
  readonly isWrong: boolean;
  /** The error of a fill whose bytes do not match the digest: a {@link SourceFault} with BLOB_CORRUPT. */
  readonly refutation: SpandrelError | undefined;
  /** Path of the file, for followers in other threads. It stays readable while the handle is open. */
  readonly path: string;
  readonly growth: Growth;
  /**
   * Resolves when the blob is complete and verified. @throws SpandrelError as `read`, STORE_FULL,
   * STORE_FAILED
   */
  completed(signal?: AbortSignal): Promise<void>;
}
