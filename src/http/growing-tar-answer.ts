import { MEDIA_TYPES } from '../core/media-types.ts';
import type { Layer } from '../spans/layer.ts';
import type { LayerReader } from '../spans/layer-reader.ts';
import type { ByteSource } from '../telemetry/metrics.ts';
import type { LayerIndexView } from '../ztoc/layer-index-view.ts';
import type { Answer, ByteStream } from './answer.ts';
import type { Exchange } from './exchange.ts';
import { formatContentRange, parseSingleRange } from './range-header.ts';

/**
 * The answer to a GET of a layer whose index is still being built, where it can be given without the total size: all of it, as
 * it comes, or one closed range as soon as its last byte has been decompressed (`Content-Range: bytes a-b/*`, RFC 9110, 14.4).
 * `undefined` if only the finished index can tell.
 */
export async function answerGrowingTar(
  reader: LayerReader,
  exchange: Exchange,
  layer: Layer,
  index: LayerIndexView,
): Promise<Answer | undefined> {
  const { headers, method, signal } = exchange;
  if (method === 'HEAD' || headers['if-range'] !== undefined || headers['if-none-match'] !== undefined)
    return undefined;
  let source: ByteSource | undefined;
  const read =
    (start: number, end: number): (() => ByteStream) =>
    () =>
      reader.read(layer, index, { range: { start, end }, signal, onSource: (from) => (source ??= from) });
  const shared = { 'accept-ranges': 'bytes', 'content-type': MEDIA_TYPES.octetStream };
  if (headers.range === undefined) {
    return { status: 200, headers: shared, source: () => source, body: read(0, Number.POSITIVE_INFINITY) };
  }
  const range = parseSingleRange(headers.range);
  if (range?.end === undefined) return undefined;
  const { start, end } = range;
  if ((await index.readSpans({ start: end - 1, end }, signal)).length === 0) return undefined;
  return {
    status: 206,
    headers: {
      ...shared,
      'content-length': end - start,
      'content-range': formatContentRange({ start, end }, undefined),
    },
    source: () => source,
    body: read(start, end),
  };
}
