import { type Digest, digestAlgorithm, digestOfLarge } from '../core/digest.ts';
import { type ErrorCode, SpandrelError } from '../core/errors.ts';
import type { BlobReader } from './reads/blob-handle.ts';
import type { BlobStore } from './blob-store.ts';
import { readBlobRange } from './reads/read-blob-range.ts';

/**
 * Reads a small blob into memory and verifies its digest. If a stored blob is wrong, it is fetched again.
 * @param open opens the blob; called again after a wrong digest
 * @param limit largest size, and the error code of larger blobs
 * @throws SpandrelError as `open` and {@link BlobReader.read}; BLOB_CORRUPT; the code of `limit`
 */
export async function readVerifiedBlob(
  store: BlobStore,
  digest: Digest,
  open: () => Promise<BlobReader>,
  limit: { readonly maxBytes: number; readonly code: ErrorCode },
  signal?: AbortSignal,
): Promise<Buffer> {
  const read = async (): Promise<Buffer | undefined> => {
    await using reader = await open();
    if (reader.sizeBytes > limit.maxBytes)
      throw new SpandrelError(limit.code, `a blob of ${reader.sizeBytes} bytes is too large for its purpose`);
    const bytes = await readBlobRange(reader, { start: 0, end: reader.sizeBytes }, signal);
    const actual = await digestOfLarge(Uint8Array.from(bytes), digestAlgorithm(digest));
    return actual === digest ? bytes : undefined;
  };
  const found = (await read()) ?? ((await store.suspect(digest)) ? undefined : await read());
  if (found === undefined)
    throw new SpandrelError('BLOB_CORRUPT', `the bytes of ${digest} have another digest`);
  return found;
}
