import { type ErrorCode, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { shortageFault } from '../../core/system/shortage.ts';

/** The meaning of a failed request to an upstream. */
export interface TransportFault {
  readonly error: SpandrelError;
  /** No response has begun, and a retry may succeed. */
  readonly retryable: boolean;
}

type Row = readonly [code: ErrorCode, retryable: boolean, words: string];

// A timeout is not retried: the caller has already waited long.
const FAULTS: Readonly<Record<string, Row>> = {
  UND_ERR_CONNECT_TIMEOUT: ['UPSTREAM_TIMEOUT', false, 'no connection in time'],
  UND_ERR_HEADERS_TIMEOUT: ['UPSTREAM_TIMEOUT', false, 'no response in time'],
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
  UND_ERR_HEADERS_OVERFLOW: ['UPSTREAM_PROTOCOL', false, 'the head of the response is too large'],
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: ['UPSTREAM_PROTOCOL', false, 'the body is not as long as announced'],
  UND_ERR_CLOSED: ['SHUTTING_DOWN', false, 'the proxy is being stopped'],
  UND_ERR_DESTROYED: ['SHUTTING_DOWN', false, 'the proxy is being stopped'],
};

/** Explains `error`, thrown by undici. The message contains no addresses and no queries. */
export function explainFault(upstream: string, error: unknown): TransportFault {
  if (isSpandrelError(error)) return { error, retryable: false };
  const errorCode = nodeErrorCode(error);
  const shortage = shortageFault(error, `the proxy cannot connect to upstream ${upstream} (${errorCode})`);
  // A request that waits for a retry holds the descriptor of its client.
  if (shortage !== undefined) return { error: shortage, retryable: false };
  const [code, retryable, words] =
    FAULTS[errorCode] ??
    (errorCode.startsWith('HPE_')
      ? (['UPSTREAM_PROTOCOL', false, 'the response is not HTTP'] as const)
      : // Untrusted certificates among others: a retry does not help.
        (['UPSTREAM_UNREACHABLE', false, 'no connection'] as const));
  const message = `upstream ${upstream}: ${words}${errorCode === '' ? '' : ` (${errorCode})`}`;
  return { error: new SpandrelError(code, message, { cause: error }), retryable };
}
