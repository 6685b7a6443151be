import { type ErrorCode, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';

/** What a broken exchange with an upstream means. */
export interface TransportFault {
  readonly error: SpandrelError;
  /** Nothing has been answered and the next try may find the upstream in order. */
  readonly retryable: boolean;
}

type Row = readonly [code: ErrorCode, retryable: boolean, words: string];

// A time-out is not retried: the caller's patience has been used up already.
const FAULTS: Readonly<Record<string, Row>> = {
  UND_ERR_CONNECT_TIMEOUT: ['UPSTREAM_TIMEOUT', false, 'no connection in time'],
  UND_ERR_HEADERS_TIMEOUT: ['UPSTREAM_TIMEOUT', false, 'no answer in time'],
  UND_ERR_BODY_TIMEOUT: ['UPSTREAM_TIMEOUT', false, 'stopped sending'],
  ETIMEDOUT: ['UPSTREAM_TIMEOUT', false, 'no connection in time'],
  ECONNREFUSED: ['UPSTREAM_UNREACHABLE', true, 'connection refused'],
  ECONNRESET: ['UPSTREAM_UNREACHABLE', true, 'connection reset'],
  EPIPE: ['UPSTREAM_UNREACHABLE', true, 'connection broken'],
  EHOSTUNREACH: ['UPSTREAM_UNREACHABLE', true, 'no route'],
  ENETUNREACH: ['UPSTREAM_UNREACHABLE', true, 'no route'],
  ENOTFOUND: ['UPSTREAM_UNREACHABLE', true, 'the host name is unknown'],
  EAI_AGAIN: ['UPSTREAM_UNREACHABLE', true, 'the host name cannot be looked up'],
  UND_ERR_SOCKET: ['UPSTREAM_UNREACHABLE', true, 'connection broken'],
  UND_ERR_HEADERS_OVERFLOW: ['UPSTREAM_PROTOCOL', false, 'the head of the answer is too large'],
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: ['UPSTREAM_PROTOCOL', false, 'the body is not as long as announced'],
  UND_ERR_CLOSED: ['SHUTTING_DOWN', false, 'the proxy is being stopped'],
  UND_ERR_DESTROYED: ['SHUTTING_DOWN', false, 'the proxy is being stopped'],
};

/** Tell what `error`, thrown by the HTTP client, means. Addresses and queries do not get into the message. */
export function explainFault(upstream: string, error: unknown): TransportFault {
  if (isSpandrelError(error)) return { error, retryable: false };
  const errorCode = nodeErrorCode(error);
  const [code, retryable, words] =
    FAULTS[errorCode] ??
    (errorCode.startsWith('HPE_')
      ? (['UPSTREAM_PROTOCOL', false, 'the answer is not HTTP'] as const)
      : // Certificates that cannot be trusted among others: trying again does not mend them.
        (['UPSTREAM_UNREACHABLE', false, 'no connection'] as const));
  const message = `upstream ${upstream}: ${words}${errorCode === '' ? '' : ` (${errorCode})`}`;
  return { error: new SpandrelError(code, message, { cause: error }), retryable };
}
