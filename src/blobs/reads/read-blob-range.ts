import type { ByteRange } from '../../core/byte-range.ts';
import type { BlobReader } from './blob-handle.ts';

/**
 * Reads a small range into memory. The caller owns the bytes. @throws SpandrelError as {@link
 * BlobReader.read}
 */
export async function readBlobRange(
  reader: BlobReader,
  range: ByteRange,
  signal?: AbortSignal,
): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of reader.read(range, signal)) chunks.push(chunk);
  const [only] = chunks;
  return only !== undefined && chunks.length === 1 ? only : Buffer.concat(chunks);
}
