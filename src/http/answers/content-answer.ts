import type { ByteRange } from '../../core/byte-range.ts';
import { rangeLength } from '../../core/byte-range.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { Answer, AnswerSource, ByteStream } from './answer.ts';
import { answerError } from './error-answer.ts';
import type { Exchange } from '../requests/exchange.ts';
import { answerMultipart } from './multipart-answer.ts';
import { formatContentRange, resolveRange } from '../requests/range-header.ts';

/** Content of a known size that can be read from anywhere. */
export interface Content {
  readonly sizeBytes: number;
  readonly contentType: string;
  /** Opaque tag without quotes; the same tag means the same bytes for ever. None while it is not known. */
  readonly etag?: string | undefined;
  readonly headers?: Answer['headers'];
  readonly source?: AnswerSource;
  /** Gaps between ranges that are read too rather than that the next range is a read of its own; small when not given. */
  readonly maxGapBytes?: number | undefined;
  read(range: ByteRange): ByteStream;
  dispose?(): Promise<void>;
}

/**
 * The answer to a GET or HEAD of `content`: If-None-Match, If-Range, one range, several ranges, or all of it (RFC 9110, sections
 * 13 and 14). Ranges mean nothing to HEAD (14.2), which tells the size of all of it.
 */
export function answerContent(content: Content, exchange: Pick<Exchange, 'method' | 'headers'>): Answer {
  const request = exchange.headers;
  const etag = content.etag === undefined ? undefined : `"${content.etag}"`;
  const shared = {
    source: content.source,
    dispose: () => content.dispose?.() ?? Promise.resolve(),
  };
  const headers = { 'accept-ranges': 'bytes', ...(etag === undefined ? {} : { etag }), ...content.headers };
  if (etag !== undefined && matchesEtag(request['if-none-match'], etag))
    return { ...shared, status: 304, headers };

  const ifRange = request['if-range'];
  const rangeApplies = exchange.method === 'GET' && (ifRange === undefined || ifRange === etag);
  const asked = rangeApplies ? resolveRange(request.range, content.sizeBytes) : ({ kind: 'whole' } as const);
  switch (asked.kind) {
    case 'whole':
      return {
        ...shared,
        status: 200,
        headers: { ...headers, 'content-type': content.contentType, 'content-length': content.sizeBytes },
        body: () => content.read({ start: 0, end: content.sizeBytes }),
      };
    case 'unsatisfiable': {
      const { sizeBytes } = content;
      const message = `the range lies outside of ${sizeBytes} bytes`;
      return {
        ...answerError(new SpandrelError('RANGE_INVALID', message, { detail: { sizeBytes } })),
        dispose: shared.dispose,
      };
    }
    case 'ranges':
      return {
        ...shared,
        ...(asked.ranges.length === 1
          ? oneRange(content, headers, asked.ranges[0])
          : answerMultipart(content, headers, asked.ranges)),
      };
  }
}

function oneRange(content: Content, headers: Answer['headers'], range: ByteRange): Answer {
  return {
    status: 206,
    headers: {
      ...headers,
      'content-type': content.contentType,
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
