import type { BlobHandle } from '../blobs/blob-handle.ts';
import { readBlobRange } from '../blobs/read-blob-range.ts';
import type { LayerCompression } from '../core/media-types.ts';
import { layerCompression } from '../core/layer-compression.ts';

const GZIP_MAGIC = Buffer.from([0x1f, 0x8b]);
/** A frame, RFC 8878, section 3.1.1; or a skippable frame, section 3.1.2, whose first byte is 0x50 to 0x5f. */
const ZSTD_MAGIC = Buffer.from([0x28, 0xb5, 0x2f, 0xfd]);
const SKIPPABLE_MAGIC = Buffer.from([0x2a, 0x4d, 0x18]);

/** How a layer is packed: by its media type, or by its first bytes where no manifest has said. */
export async function detectCompression(
  handle: BlobHandle,
  mediaType: string | undefined,
): Promise<LayerCompression> {
  const known = mediaType === undefined ? undefined : layerCompression(mediaType);
  if (known !== undefined) return known;
  return detectCompressionOf(await readBlobRange(handle, { start: 0, end: Math.min(4, handle.sizeBytes) }));
}

/** How a layer that begins with `head` is packed; what has no other magic number is taken for a plain tar. */
export function detectCompressionOf(head: Buffer): LayerCompression {
  if (head.subarray(0, 2).equals(GZIP_MAGIC)) return 'gzip';
  const isSkippable = (head[0] ?? 0) >> 4 === 5 && head.subarray(1).equals(SKIPPABLE_MAGIC);
  return head.equals(ZSTD_MAGIC) || isSkippable ? 'zstd' : 'none';
}
