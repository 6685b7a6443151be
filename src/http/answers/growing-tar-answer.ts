import type { ByteRange } from '../../core/byte-range.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { HeldLayer } from '../../layers/layer.ts';
import type { LayerReader } from '../../spans/layer-reader.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';
import type { LayerIndexView } from '../../index/layer-index-view.ts';
import type { Answer } from './answer.ts';
import type { Exchange } from '../requests/exchange.ts';
import { formatContentRange, parseSingleRange } from '../requests/range-header.ts';

/**
 * The answer to a GET of a layer whose index is still being built, where it can be given without the total size: all of it, as
 * it comes, or one range as {@link answerTarRange} gives it. `undefined` if only the finished index can tell.
 */
export async function answerGrowingTar(
  reader: LayerReader,
  exchange: Exchange,
  layer: HeldLayer,
  index: LayerIndexView,
): Promise<Answer | undefined> {
  const { headers, method } = exchange;
  if (method === 'HEAD' || headers['if-range'] !== undefined || headers['if-none-match'] !== undefined)
    return undefined;
  if (headers.range !== undefined) return answerTarRange(reader, exchange, layer, index);
  return { status: 200, ...answerPart(reader, exchange, layer, index, WHOLE) };
}

/**
 * The answer to a GET of one closed range of a layer whose total size is unknown, as soon as its last byte has been decompressed
 * (`Content-Range: bytes a-b/*`, RFC 9110, 14.4). `undefined` for other requests, and if that byte is not there.
 */
export async function answerTarRange(
  reader: LayerReader,
  exchange: Exchange,
  layer: HeldLayer,
  index: LayerIndexView,
): Promise<Answer | undefined> {
  const { headers, method, signal } = exchange;
  if (method === 'HEAD' || headers['if-range'] !== undefined) return undefined;
  const range = parseSingleRange(headers.range);
  if (range?.end === undefined) return undefined;
  const { start, end } = range;
  if ((await index.readSpans({ start: end - 1, end }, signal)).length === 0) return undefined;
  const part = answerPart(reader, exchange, layer, index, { start, end });
  const contentRange = formatContentRange({ start, end }, undefined);
  return {
    ...part,
    status: 206,
    headers: { ...part.headers, 'content-length': end - start, 'content-range': contentRange },
  };
}

const WHOLE: ByteRange = { start: 0, end: Number.POSITIVE_INFINITY };

function answerPart(
  reader: LayerReader,
  { signal, client }: Exchange,
  layer: HeldLayer,
  index: LayerIndexView,
  range: ByteRange,
): Omit<Answer, 'status'> {
  let source: ByteSource | undefined;
  const reading = reader.beginRequest(client, signal);
  return {
    headers: { 'accept-ranges': 'bytes', 'content-type': MEDIA_TYPES.octetStream },
    source: () => source,
    body: () => reader.read(layer, index, { range, reading, onSource: (from) => (source ??= from) }),
  };
}
