import { SpandrelError } from '../../core/errors.ts';
import { shortageFault } from '../../core/system/shortage.ts';

/** The meaning of a failed call of the AWS SDK, and its label in metrics. */
export interface AwsFault {
  readonly error: SpandrelError;
  readonly outcome: string;
}

/** The fields of the SDK's errors that matter here. */
interface SdkError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $fault?: 'client' | 'server';
}

const THROTTLED =
  /^(Throttling|ThrottlingException|ThrottledException|TooManyRequestsException|RequestLimitExceeded)$/;

/**
 * Explains `error`, thrown by the AWS SDK. Its message may name accounts and roles, so it is the cause only.
 */
export function explainAwsFault(upstream: string, error: unknown): AwsFault {
  const { name, $fault, $metadata }: Partial<SdkError> = error instanceof Error ? error : {};
  const status = $metadata?.httpStatusCode;
  const fault = (code: SpandrelError['code'], outcome: string, words: string): AwsFault => ({
    outcome,
    error: new SpandrelError(code, `upstream ${upstream}: ${words}`, { cause: error }),
  });
  const shortage = shortageFault(error, `the proxy cannot connect to AWS for upstream ${upstream}`);
  if (shortage !== undefined) return { error: shortage, outcome: 'exhausted' };
  if (isWithoutAwsCredentials(error))
    return fault('UPSTREAM_CREDENTIALS_REFUSED', 'refused', 'the AWS SDK finds no credentials');
  if (status === 429 || THROTTLED.test(name ?? ''))
    return fault('UPSTREAM_THROTTLED', 'throttled', 'AWS limits requests for tokens');
  if (name === 'TimeoutError') return fault('UPSTREAM_TIMEOUT', 'timeout', 'AWS does not respond in time');
  if ($fault === 'client' && status !== undefined && status < 500)
    return fault('UPSTREAM_CREDENTIALS_REFUSED', 'refused', `AWS refuses a token (${name ?? status})`);
  return fault('UPSTREAM_UNREACHABLE', 'unreachable', 'AWS is unreachable');
}

/** True if the SDK found no credentials anywhere. */
export function isWithoutAwsCredentials(error: unknown): boolean {
  return error instanceof Error && error.name === 'CredentialsProviderError';
}
