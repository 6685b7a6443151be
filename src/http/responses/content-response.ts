import type { ByteRange } from '../../core/byte-range.ts';
import { rangeLength } from '../../core/byte-range.ts';
import { type Digest, digestAlgorithm, digestHex } from '../../core/digest.ts';
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
  // An encoded form is sent whole: ranges are those of the plain one.
  const isPlain = content.encoding === undefined || content.encoding === 'identity';
  const rangeApplies = context.method === 'GET' && isPlain && (ifRange === undefined || ifRange === etag);
  const requested = rangeApplies
    ? resolveRange(request.range, content.sizeBytes)
    : ({ kind: 'whole' } as const);
  switch (requested.kind) {
    case 'whole':
      return {
        ...shared,
        status: 200,
        headers: {
          ...headers,
          'content-type': content.mediaType,
          'content-length': content.sizeBytes,
          ...(context.method === 'GET' ? digestField('content-digest', content.reprDigest) : {}),
        },
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

function contentHeaders({
  digest,
  encoding,
  vary = 'accept-encoding',
  reprDigest,
  isImmutable,
}: Content): Record<string, string> {
  return {
    ...(digest === undefined ? {} : { 'docker-content-digest': digest }),
    ...(isImmutable ? IMMUTABLE : {}),
    ...(encoding === undefined ? {} : { vary }),
    ...(encoding === undefined || encoding === 'identity' ? {} : { 'content-encoding': encoding }),
    ...digestField('repr-digest', reprDigest),
  };
}

/** RFC 9530, sections 2 and 3. */
function digestField(
  name: 'content-digest' | 'repr-digest',
  digest: Digest | undefined,
): Record<string, string> {
  if (digest === undefined) return {};
  const algorithm = { sha256: 'sha-256', sha512: 'sha-512' }[digestAlgorithm(digest)];
  return { [name]: `${algorithm}=:${Buffer.from(digestHex(digest), 'hex').toString('base64')}:` };
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
