import { SpandrelError } from '../../core/errors.ts';
import type { BlobResponse } from '../../upstream/blobs/blob-source.ts';

/** @throws SpandrelError BLOB_CORRUPT if an answer is about a blob of another size */
export function checkTotalBytes({ totalBytes }: BlobResponse, sizeBytes: number): void {
  if (totalBytes !== sizeBytes)
    throw new SpandrelError(
      'BLOB_CORRUPT',
      `the blob should have ${sizeBytes} bytes, the upstream says ${totalBytes}`,
    );
}
