import type { Digest } from '../core/digest.ts';
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
/** The digest of a span as text, with its length and its place. */
const PLAIN_SPAN_BYTES = 84;

/**
 * The zTOC of a layer whose spans and files are known.
 * @throws SpandrelError LAYER_TOO_LARGE if it would exceed `maxBytes`
 */
export function buildZtoc(parts: ZtocParts): Uint8Array<ArrayBuffer> {
  const { compression, spanBytes, entries, writer, maxBytes } = parts;
  const spans = [...writer.spans];
  const spanDigests = spans.map(({ digest }) => digest);
  if (compression === 'none') return encodePlainZtoc({ ...parts, spanDigests });
  checkBytes(gzipZinfoBytes(spans.length) + entries.usedBytes, maxBytes);
  const checkpoints = encodeGzipZinfo(spanBytes, spans.map(checkpointOf), (id, target) =>
    writer.readWindow(id, target),
  );
  return encode(parts, spanDigests, compression, checkpoints);
}

export interface PlainZtocParts extends Omit<ZtocParts, 'compression' | 'writer'> {
  /** Of each slice of `spanBytes`. */
  readonly spanDigests: readonly Digest[];
}

/** As {@link buildZtoc}, for a tar. */
export function encodePlainZtoc(parts: PlainZtocParts): Uint8Array<ArrayBuffer> {
  const { spanBytes, layerBytes: sizeBytes, entries, spanDigests, maxBytes } = parts;
  checkBytes(spanDigests.length * PLAIN_SPAN_BYTES + entries.usedBytes, maxBytes);
  return encode(parts, spanDigests, 'none', encodeTarZinfo({ spanBytes, sizeBytes }));
}

function checkBytes(bytes: number, maxBytes = MAX_BYTES): void {
  if (bytes > maxBytes)
    throw new SpandrelError('LAYER_TOO_LARGE', 'the zTOC of the layer would be too large');
}

function encode(
  { layerBytes, archiveBytes, entries }: Pick<ZtocParts, 'layerBytes' | 'archiveBytes' | 'entries'>,
  spanDigests: readonly Digest[],
  compression: ZtocCompression,
  checkpoints: Uint8Array,
): Uint8Array<ArrayBuffer> {
  return encodeZtoc({
    version: ZTOC_VERSION,
    buildTool: ZTOC_BUILD_TOOL,
    compressedArchiveSize: layerBytes,
    uncompressedArchiveSize: archiveBytes,
    entries,
    compression,
    maxSpanId: spanDigests.length - 1,
    spanDigests,
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
