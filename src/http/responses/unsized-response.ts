import { rangeLength } from '../../core/byte-range.ts';
import type { TarRequest } from '../../images/contents/layer-contents.ts';
import type { ByteStream, UnsizedContent } from '../../images/contents/content.ts';
import { formatContentRange, parseClosedRange } from '../requests/range-header.ts';
import type { RequestContext } from '../requests/request-context.ts';
import type { RegistryResponse } from './registry-response.ts';

/**
 * The response with a part of a layer whose total size is unknown: all of it without Content-Length, or one
 * range with `Content-Range: bytes a-b/*` (RFC 9110, section 14.4).
 */
export function unsizedResponse(content: UnsizedContent): RegistryResponse {
  const { mediaType, range, source } = content;
  const body = (): ByteStream => content.read();
  const headers = { 'accept-ranges': 'bytes', 'content-type': mediaType };
  if (range === undefined) return { status: 200, headers, source, body };
  const contentRange = formatContentRange(range, undefined);
  return {
    status: 206,
    headers: { ...headers, 'content-length': rangeLength(range), 'content-range': contentRange },
    source,
    body,
  };
}

/** Which parts of a layer the request can take while the total size is unknown. */
export function parseTarRequest({ method, headers, client, signal }: RequestContext): TarRequest {
  const isPlainGet = method === 'GET' && headers['if-range'] === undefined;
  const needsEtag = headers['if-none-match'] !== undefined;
  const range = isPlainGet ? parseClosedRange(headers.range) : undefined;
  return { client, signal, range, needsEtag, isWhole: isPlainGet && headers.range === undefined };
}
