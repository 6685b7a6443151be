import { type ErrorCode, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { shortageFault } from '../../core/system/shortage.ts';
import type { DurableOutcome } from '../../telemetry/durable/durable-metrics.ts';

/** The meaning of a failed request to the object store. */
export interface S3Fault {
  readonly outcome: DurableOutcome;
  /** For an operator. */
  readonly words: string;
  readonly error: SpandrelError;
  /** False if the store refuses this one object only. */
  readonly isOfStore: boolean;
}

/** A response of the store that is not what was asked for. */
export class S3Refusal extends Error {
  override name = 'S3Refusal';
  readonly status: number;
  /** `Code` of the error in XML; empty if the body has none. */
  readonly code: string;

  constructor(status: number, body: string) {
    const code = /<Code>([A-Za-z0-9]{1,64})<\/Code>/.exec(body)?.[1] ?? '';
    super(`status ${status}${code === '' ? '' : ` (${code})`}`);
    this.status = status;
    this.code = code;
  }
}

type Row = readonly [outcome: DurableOutcome, words: string];

const DENIED: Row = ['denied', 'the bucket denies a request: see the policy in the documentation'];
const WRONG_BUCKET: Row = [
  'bucket',
  'there is no such bucket in this region: see bucket, region and endpoint',
];
const CREDENTIALS: Row = ['credentials', 'the credentials of the proxy are missing, expired or refused'];
const CLOCK: Row = ['clock', 'the clock of this machine is wrong: the store refuses signatures'];
const THROTTLED: Row = ['throttled', 'the store asks to slow down'];
const TIMEOUT: Row = ['timeout', 'the store does not respond in time'];
const UNREACHABLE: Row = ['unreachable', 'the store is unreachable'];

/** Error codes of S3 (API reference, "Error responses") and of the SDK. */
const BY_CODE: Readonly<Record<string, Row>> = {
  AccessDenied: DENIED,
  AllAccessDisabled: DENIED,
  NoSuchBucket: WRONG_BUCKET,
  PermanentRedirect: WRONG_BUCKET,
  TemporaryRedirect: WRONG_BUCKET,
  IllegalLocationConstraintException: WRONG_BUCKET,
  AuthorizationHeaderMalformed: WRONG_BUCKET,
  InvalidBucketName: WRONG_BUCKET,
  CredentialsProviderError: CREDENTIALS,
  TokenProviderError: CREDENTIALS,
  ExpiredToken: CREDENTIALS,
  ExpiredTokenException: CREDENTIALS,
  InvalidToken: CREDENTIALS,
  InvalidAccessKeyId: CREDENTIALS,
  SignatureDoesNotMatch: CREDENTIALS,
  UnrecognizedClientException: CREDENTIALS,
  RequestTimeTooSkewed: CLOCK,
  RequestExpired: CLOCK,
  SlowDown: THROTTLED,
  Throttling: THROTTLED,
  ThrottlingException: THROTTLED,
  TooManyRequests: THROTTLED,
  RequestLimitExceeded: THROTTLED,
  RequestTimeout: TIMEOUT,
  TimeoutError: TIMEOUT,
  UND_ERR_CONNECT_TIMEOUT: TIMEOUT,
  UND_ERR_HEADERS_TIMEOUT: TIMEOUT,
  UND_ERR_BODY_TIMEOUT: TIMEOUT,
  ETIMEDOUT: TIMEOUT,
  // The SDK names these `TimeoutError`.
  ECONNRESET: UNREACHABLE,
  EPIPE: UNREACHABLE,
  UND_ERR_RES_CONTENT_LENGTH_MISMATCH: UNREACHABLE,
};

const NOT_IMPLEMENTED = 501;

const ERROR_CODES: Readonly<Partial<Record<DurableOutcome, ErrorCode>>> = {
  denied: 'UPSTREAM_CREDENTIALS_REFUSED',
  credentials: 'UPSTREAM_CREDENTIALS_REFUSED',
  clock: 'UPSTREAM_CREDENTIALS_REFUSED',
  throttled: 'UPSTREAM_THROTTLED',
  timeout: 'UPSTREAM_TIMEOUT',
  refused: 'UPSTREAM_PROTOCOL',
  protocol: 'UPSTREAM_PROTOCOL',
};

/** Explains `error`, thrown by the SDK, by undici or as {@link S3Refusal}. */
export function explainS3Fault(error: unknown): S3Fault {
  const shortage = shortageFault(error, 'the proxy cannot connect to the object store');
  if (shortage !== undefined)
    return { outcome: 'unreachable', words: shortage.message, error: shortage, isOfStore: true };
  if (isSpandrelError(error, 'UPSTREAM_PROTOCOL'))
    return { outcome: 'protocol', words: error.message, error, isOfStore: false };
  const { status, codes } = describe(error);
  const [outcome, words] = rowOf(status, codes);
  const code = ERROR_CODES[outcome] ?? 'UPSTREAM_UNREACHABLE';
  const named = codes.find((name) => name !== '' && name !== 'Error') ?? status;
  const text = `${words}${named === undefined ? '' : ` (${named})`}`;
  const isOfStore = outcome !== 'refused' && outcome !== 'protocol';
  return {
    outcome,
    words: text,
    isOfStore,
    error: new SpandrelError(code, `object store: ${text}`, { cause: error }),
  };
}

/** The fields of the SDK's errors that matter here. */
interface SdkError extends Error {
  readonly Code?: string;
  readonly $metadata?: { readonly httpStatusCode?: number };
}

/** Names by which the error may be known, the most telling first. */
function describe(error: unknown): {
  readonly status: number | undefined;
  readonly codes: readonly string[];
} {
  if (error instanceof S3Refusal) return { status: error.status, codes: [error.code] };
  const { Code, name = '', $metadata }: Partial<SdkError> = error instanceof Error ? error : {};
  return { status: $metadata?.httpStatusCode, codes: [Code ?? '', nodeErrorCode(error), name] };
}

/** True for a code that says something. */
function isNamed(code: string): boolean {
  return !/^(|Error|\d+|BadRequest|Unknown|UnknownError)$/.test(code);
}

function rowOf(status: number | undefined, codes: readonly string[]): Row {
  for (const code of codes) if (Object.hasOwn(BY_CODE, code)) return BY_CODE[code] ?? UNREACHABLE;
  if (status === undefined) return UNREACHABLE;
  if (status === 429) return THROTTLED;
  // To HEAD, S3 responds so if the session has expired, without a body that says it.
  if (status === 400 && !codes.some((code) => isNamed(code))) return CREDENTIALS;
  // It fails at what it does not know, not at everything.
  if (status === NOT_IMPLEMENTED) return ['refused', 'the store does not know a request'];
  if (status >= 500) return ['unavailable', 'the store fails'];
  if (status === 401 || status === 403) return DENIED;
  if (status >= 300 && status < 400) return WRONG_BUCKET;
  return ['refused', 'the store refuses a request'];
}

/** True for a response of the store with this status. */
export function hasStatus(error: unknown, status: number): boolean {
  return error instanceof Error && describe(error).status === status;
}

/** True if the store says that it does not know what a request asks for. */
export function isNotImplemented(error: unknown): boolean {
  return (
    hasStatus(error, NOT_IMPLEMENTED) ||
    (error instanceof Error && describe(error).codes.includes('NotImplemented'))
  );
}
