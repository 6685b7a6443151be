import { SpandrelError } from '../core/errors.ts';
import { encodeZtoc } from '../ztoc/encode-ztoc.ts';
import { encodeGzipZinfo, gzipZinfoBytes } from '../ztoc/gzip-zinfo.ts';
import type { IndexWriter } from '../index/index-writer.ts';
import type { Span } from '../ztoc/span.ts';
import { encodeTarZinfo } from '../ztoc/tar-zinfo.ts';
import type { TocRecords } from '../index/toc-records.ts';
import { ZTOC_BUILD_TOOL, ZTOC_VERSION, type ZtocCompression } from '../ztoc/ztoc.ts';

export interface ZtocParts {
  readonly compression: ZtocCompression;
  readonly spanBytes: number;
  readonly layerBytes: number;
  readonly archiveBytes: number;
  readonly entries: TocRecords;
  /** Holds the spans and their windows. */
  readonly writer: IndexWriter;
  /** Default: the largest zTOC that can be written. */
  readonly maxBytes?: number | undefined;
}

/** The builder grows a flatbuffer by doubling, and cannot exceed 2 GiB. */
const MAX_BYTES = 2 ** 30;

/**
 * The zTOC of a layer whose spans and files are known.
 * @throws SpandrelError LAYER_TOO_LARGE if it would exceed `maxBytes`
 */
export function buildZtoc(parts: ZtocParts): Uint8Array<ArrayBuffer> {
  const { compression, spanBytes, layerBytes, entries, writer, maxBytes = MAX_BYTES } = parts;
  const spans = [...writer.spans];
  const zinfoBytes = compression === 'gzip' ? gzipZinfoBytes(spans.length) : 0;
  if (zinfoBytes + entries.usedBytes > maxBytes)
    throw new SpandrelError('LAYER_TOO_LARGE', 'the zTOC of the layer would be too large');
  const checkpoints =
    compression === 'none'
      ? encodeTarZinfo({ spanBytes, sizeBytes: layerBytes })
      : encodeGzipZinfo(spanBytes, spans.map(checkpointOf), (id, target) => writer.readWindow(id, target));
  return encodeZtoc({
    version: ZTOC_VERSION,
    buildTool: ZTOC_BUILD_TOOL,
    compressedArchiveSize: layerBytes,
    uncompressedArchiveSize: parts.archiveBytes,
    entries,
    compression,
    maxSpanId: spans.length - 1,
    spanDigests: spans.map(({ digest }) => digest),
    checkpoints,
  });
}

function checkpointOf({ compressed, uncompressed, bits }: Span): {
  compressedOffset: number;
  bits: number;
  uncompressedOffset: number;
} {
  return {
    compressedOffset: bits === 0 ? compressed.start : compressed.start + 1,
    bits,
    uncompressedOffset: uncompressed.start,
  };
}
