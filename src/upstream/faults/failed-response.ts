import { type ErrorCode, SpandrelError } from '../../core/errors.ts';
import { readRateLimit } from '../transport/rate-limit-headers.ts';
import type { TransportResponse } from '../transport/transport.ts';
import { readWords, type UpstreamWords } from './upstream-words.ts';

/** Codes that a 404 may stand for. The error body may say which. */
type UnknownCode = 'MANIFEST_UNKNOWN' | 'BLOB_UNKNOWN' | 'NAME_UNKNOWN';

/** A response, and a possible reason if it is a refusal. */
export type FailedResponse = TransportResponse & { readonly hint?: string | undefined };

/** The error for an unsuccessful response. Reads its body. */
export async function readFailure(
  upstream: string,
  response: FailedResponse,
  unknown: UnknownCode,
): Promise<SpandrelError> {
  const words = await readWords(response);
  return describeFailure(`upstream ${upstream} answered`, upstream, response, {
    words,
    code: failureCode(response.status, words.code, unknown),
  });
}

/**
 * The error for a response with a known code: status, the upstream's own message, and details for clients.
 */
export function describeFailure(
  subject: string,
  upstream: string,
  { status, headers, retryAfterSeconds, hint, isUnproven }: FailedResponse,
  { words, code }: { readonly words: UpstreamWords; readonly code: ErrorCode },
): SpandrelError {
  const rateLimit = isUnproven === true ? undefined : readRateLimit(headers);
  const detail = {
    upstream,
    status,
    ...(words.code === undefined ? {} : { upstreamCode: words.code }),
    ...(words.message === undefined ? {} : { upstreamMessage: words.message }),
    ...(retryAfterSeconds === undefined ? {} : { retryAfterSeconds }),
    ...(rateLimit === undefined ? {} : { rateLimit }),
  };
  const said = [subject, status, ...(words.code === undefined ? [] : [words.code])].join(' ');
  const quoted = words.message === undefined ? '' : `: "${words.message}"`;
  return new SpandrelError(code, `${said}${quoted}${hint === undefined ? '' : `; ${hint}`}`, { detail });
}

/** The code for an unsuccessful status. */
export function failureCode(
  status: number,
  upstreamCode: string | undefined,
  unknown: UnknownCode,
): ErrorCode {
  switch (status) {
    case 401:
      return 'UPSTREAM_CREDENTIALS_REFUSED';
    case 403:
      return 'DENIED';
    case 404:
      return upstreamCode === 'NAME_UNKNOWN' ? 'NAME_UNKNOWN' : unknown;
    case 408:
    case 504:
      return 'UPSTREAM_TIMEOUT';
    case 429:
      return 'UPSTREAM_THROTTLED';
    default:
      return status >= 500 && status !== 501 ? 'UPSTREAM_UNREACHABLE' : 'UPSTREAM_PROTOCOL';
  }
}
