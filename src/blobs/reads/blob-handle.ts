import type { ByteRange } from '../../core/byte-range.ts';
import type { Digest } from '../../core/digest.ts';
import type { ProvenBytes } from '../../core/proven-bytes.ts';
import type { Growth } from '../files/growth.ts';
import type { StoredBlob } from '../files/store-budget.ts';

/** Bytes in a file that is open; another thread of the process can read them. */
export interface FileRange {
  readonly fd: number;
  readonly range: ByteRange;
}

/** A blob that can be read from anywhere. Dispose of it when done. */
export interface BlobReader extends AsyncDisposable {
  readonly digest: Digest;
  readonly sizeBytes: ProvenBytes;
  /** Where bytes come from: `disk` if the blob is whole and verified, `fill` while it arrives, `upstream` if the store cannot take it. */
  readonly source: 'disk' | 'fill' | 'upstream';
  /**
   * Stream `range` in order, waiting for bytes that have not arrived and asking the fill to fetch those first. The caller
   * owns the buffers. Reading never waits for bytes outside of the range, but for this: whoever reads all of a blob gets its end
   * only when the digest has been verified. Several reads may run at once.
   * @throws SpandrelError RANGE_INVALID if the range passes the end; BLOB_CORRUPT or an UPSTREAM_* code if the bytes cannot be had
   */
  read(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined>;
  /** As {@link read}, but a buffer is good only until the next one is asked for: it is filled again. */
  lend(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined>;
  /**
   * Where `range` can be read from a file, once all of it has arrived there; the descriptor is open as long as the blob is. `undefined`
   * if the store cannot take the blob. Whoever cannot read the file can still {@link read}.
   * @throws SpandrelError as `read`
   */
  locate(range: ByteRange, signal?: AbortSignal): Promise<FileRange | undefined>;
}

/**
 * An open blob in a file, complete or still arriving. It keeps the blob from being evicted. A fill that is to complete its blob
 * goes on after its handles are gone.
 */
export interface BlobHandle extends BlobReader {
  readonly source: 'disk' | 'fill';
  /** What the store knew of the blob when it was opened; none while it arrives. */
  readonly stored: StoredBlob | undefined;
  /**
   * The file has been found to hold other bytes than the digest says: reads throw STORE_FAILED, or BLOB_CORRUPT where it is a fill, and
   * what has been read may be wrong.
   */
  readonly isWrong: boolean;
  /** The file that holds the bytes, for followers in other threads. It stays readable while the handle is open. */
  readonly path: string;
  readonly growth: Growth;
  /** Resolves when the blob is whole and its digest verified. @throws SpandrelError as `read`, STORE_FULL, STORE_FAILED */
  completed(signal?: AbortSignal): Promise<void>;
}
