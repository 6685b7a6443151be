import type { ByteRange } from '../../core/byte-range.ts';
import { rangeLength } from '../../core/byte-range.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { Content } from '../../images/contents/content.ts';
import { formatContentRange, resolveRange } from '../requests/range-header.ts';
import type { RequestContext } from '../requests/request-context.ts';
import { errorResponse } from './error-response.ts';
import { multipartResponse } from './multipart-response.ts';
import { IMMUTABLE, type RegistryResponse } from './registry-response.ts';

/**
 * The response to a GET or HEAD of `content`: If-None-Match, If-Range, one range, several ranges, or all of
 * it (RFC 9110, sections 13 and 14). HEAD ignores ranges (14.2) and has the size of the whole.
 * @param more further headers
 */
export function contentResponse(
  content: Content,
  context: Pick<RequestContext, 'method' | 'headers'>,
  more: RegistryResponse['headers'] = {},
): RegistryResponse {
  const request = context.headers;
  const etag = `"${content.etag}"`;
  const shared = {
    source: content.source,
    dispose: () => content.dispose?.() ?? Promise.resolve(),
  };
  const headers = { 'accept-ranges': 'bytes', etag, ...contentHeaders(content), ...more };
  if (matchesEtag(request['if-none-match'], etag)) return { ...shared, status: 304, headers };

  const ifRange = request['if-range'];
  const rangeApplies = context.method === 'GET' && (ifRange === undefined || ifRange === etag);
  const requested = rangeApplies
    ? resolveRange(request.range, content.sizeBytes)
    : ({ kind: 'whole' } as const);
  switch (requested.kind) {
    case 'whole':
      return {
        ...shared,
        status: 200,
        headers: { ...headers, 'content-type': content.mediaType, 'content-length': content.sizeBytes },
        body: () => content.read({ start: 0, end: content.sizeBytes }),
      };
    case 'unsatisfiable': {
      const { sizeBytes } = content;
      const message = `the range lies outside of ${sizeBytes} bytes`;
      return {
        ...errorResponse(new SpandrelError('RANGE_INVALID', message, { detail: { sizeBytes } })),
        dispose: shared.dispose,
      };
    }
    case 'ranges':
      return {
        ...shared,
        ...(requested.ranges.length === 1
          ? oneRange(content, headers, requested.ranges[0])
          : multipartResponse(content, headers, requested.ranges)),
      };
  }
}

function contentHeaders({ digest, encoding, isImmutable }: Content): Record<string, string> {
  return {
    ...(digest === undefined ? {} : { 'docker-content-digest': digest }),
    ...(isImmutable ? IMMUTABLE : {}),
    ...(encoding === undefined ? {} : { vary: 'accept-encoding' }),
    ...(encoding === 'gzip' ? { 'content-encoding': encoding } : {}),
  };
}

function oneRange(
  content: Content,
  headers: RegistryResponse['headers'],
  range: ByteRange,
): RegistryResponse {
  return {
    status: 206,
    headers: {
      ...headers,
      'content-type': content.mediaType,
      'content-length': rangeLength(range),
      'content-range': formatContentRange(range, content.sizeBytes),
    },
    body: () => content.read(range),
  };
}

/** If-None-Match compares weakly: RFC 9110, section 13.1.2. */
function matchesEtag(header: string | undefined, etag: string): boolean {
  if (header === undefined) return false;
  return header
    .split(',')
    .some((candidate) => candidate.trim() === '*' || candidate.trim().replace(/^W\//, '') === etag);
}
