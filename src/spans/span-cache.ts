import { crc32 } from 'node:zlib';

import type { ByteCache, CacheTier } from '../cache/byte-cache.ts';
import { rangeLength } from '../core/byte-range.ts';
import type { Digest } from '../core/digest.ts';
import type { ReadSpan } from '../ztoc/span.ts';

/** The key of a span's decompressed bytes. The same whatever index they are read by. */
export function spanKey(layer: Digest, { uncompressed }: ReadSpan): string {
  return `span:${layer}:${uncompressed.start}-${uncompressed.end}`;
}

/** The bytes of a span, if a tier has them and they are right. */
export async function takeCachedSpan(
  cache: ByteCache,
  key: string,
  span: ReadSpan,
): Promise<{ bytes: Uint8Array; source: CacheTier } | undefined> {
  const hit = await cache.get(key);
  if (hit === undefined) return undefined;
  // Memory is ours; what comes over the network is checked before anyone sees it.
  if (hit.tier === 'memory' || isIntact(hit.bytes, span)) return { bytes: hit.bytes, source: hit.tier };
  await cache.delete(key);
  return undefined;
}

export function isIntact(bytes: Uint8Array, span: ReadSpan): boolean {
  return bytes.byteLength === rangeLength(span.uncompressed) && crc32(bytes) === span.crc32;
}
