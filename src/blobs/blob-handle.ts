import type { ByteRange } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';
import type { Growth } from './growth.ts';

/**
 * An open blob, complete or still arriving. It keeps the blob from being evicted; dispose of it when done. A fill goes on
 * after its handles are gone.
 */
export interface BlobHandle extends AsyncDisposable {
  readonly digest: Digest;
  readonly sizeBytes: number;
  /** Where bytes come from: `disk` if the blob is whole and verified, `fill` while it arrives. */
  readonly source: 'disk' | 'fill';
  /** The file that holds the bytes, for followers in other threads. It stays readable while the handle is open. */
  readonly path: string;
  readonly growth: Growth;
  /**
   * Stream `range` in order, waiting for bytes that have not arrived and asking the fill to fetch those first. The caller
   * owns the buffers. Reading never waits for bytes outside of the range.
   * @throws SpandrelError RANGE_INVALID if the range passes the end; BLOB_CORRUPT or an UPSTREAM_* code if the fill fails
   */
  read(range: ByteRange, signal?: AbortSignal): AsyncGenerator<Buffer, void, undefined>;
  /** Resolves when the blob is whole and its digest verified. @throws SpandrelError as `read` */
  completed(signal?: AbortSignal): Promise<void>;
}
