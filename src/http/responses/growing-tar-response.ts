import type { ByteRange } from '../../core/byte-range.ts';
import { MEDIA_TYPES } from '../../core/media-types.ts';
import type { AuthorizedLayer } from '../../layers/layer.ts';
import type { LayerReader } from '../../spans/layer-reader.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';
import type { LayerIndexView } from '../../index/layer-index-view.ts';
import type { RegistryResponse } from './registry-response.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { formatContentRange, parseSingleRange } from '../requests/range-header.ts';

/**
 * The response to a GET of a layer whose index is being built, if it does not need the total size: the whole
 * layer as it arrives, or one closed range. `undefined` if the caller must wait for the finished index.
 */
export async function growingTarResponse(
  reader: LayerReader,
  context: RequestContext,
  layer: AuthorizedLayer,
  index: LayerIndexView,
): Promise<RegistryResponse | undefined> {
  const { headers, method } = context;
  if (method === 'HEAD' || headers['if-range'] !== undefined || headers['if-none-match'] !== undefined)
    return undefined;
  if (headers.range !== undefined) return tarRangeResponse(reader, context, layer, index);
  return { status: 200, ...answerPart(reader, context, layer, index, WHOLE) };
}

/**
 * The response to a GET of one closed range of a layer whose total size is unknown (`Content-Range: bytes a-b/*`,
 * RFC 9110, section 14.4). Waits until the last byte of the range is decompressed. `undefined` for other
 * requests, and if the layer ends before that byte.
 */
export async function tarRangeResponse(
  reader: LayerReader,
  context: RequestContext,
  layer: AuthorizedLayer,
  index: LayerIndexView,
): Promise<RegistryResponse | undefined> {
  const { headers, method, signal } = context;
  if (method === 'HEAD' || headers['if-range'] !== undefined) return undefined;
  const range = parseSingleRange(headers.range);
  if (range?.end === undefined) return undefined;
  const { start, end } = range;
  if ((await index.readSpans({ start: end - 1, end }, signal)).length === 0) return undefined;
  const part = answerPart(reader, context, layer, index, { start, end });
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
  { signal, client }: RequestContext,
  layer: AuthorizedLayer,
  index: LayerIndexView,
  range: ByteRange,
): Omit<RegistryResponse, 'status'> {
  let source: ByteSource | undefined;
  const reading = reader.beginRequest(client, signal);
  return {
    headers: { 'accept-ranges': 'bytes', 'content-type': MEDIA_TYPES.octetStream },
    source: () => source,
    body: () => reader.read(layer, index, { range, reading, onSource: (from) => (source ??= from) }),
  };
}
