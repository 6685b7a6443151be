import type { Digest } from '../core/digest.ts';
import type { DecodedZtoc } from '../ztoc/decode-ztoc.ts';
import { decodeGzipZinfo } from '../ztoc/gzip-zinfo.ts';
import { decodeTarZinfo } from '../ztoc/tar-zinfo.ts';
import type { PrefetchLayer } from './prefetch.ts';

/**
 * True if no file has extended attributes and no directory is opaque, so that the snapshotter need not look
 * (soci-snapshotter `soci/soci_index.go`, shouldDisableXattrs).
 */
export function hasNoXattrs({ entries }: DecodedZtoc): boolean {
  return entries.every(
    ({ name, paxRecords }) =>
      !name.endsWith('.wh..wh..opq') &&
      ![...paxRecords.keys()].some((key) => key.startsWith('SCHILY.xattr.')),
  );
}

/** The files and spans of a zTOC. @throws SpandrelError INDEX_MALFORMED */
export function prefetchLayer(digest: Digest, ztoc: DecodedZtoc): PrefetchLayer {
  const { entries, compression, checkpoints } = ztoc;
  if (compression === 'none') {
    const { spanBytes } = decodeTarZinfo(checkpoints);
    return { digest, entries, spanIdAt: (offset) => Math.floor(offset / spanBytes) };
  }
  const starts = decodeGzipZinfo(checkpoints).checkpoints.map(({ uncompressedOffset }) => uncompressedOffset);
  return {
    digest,
    entries,
    spanIdAt: (offset) =>
      Math.max(
        0,
        starts.findLastIndex((start) => start <= offset),
      ),
  };
}
