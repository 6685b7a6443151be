import { SpandrelError } from '../../core/errors.ts';
import type { BlobResponse } from '../../core/sources/blob-source.ts';

/** Checks the size in a response. @throws SpandrelError BLOB_CORRUPT if it is another one */
export function checkTotalBytes({ totalBytes }: BlobResponse, sizeBytes: number): void {
  if (totalBytes !== sizeBytes)
    throw new SpandrelError(
      'BLOB_CORRUPT',
      `the blob should have ${sizeBytes} bytes, the upstream says ${totalBytes}`,
    );
}
