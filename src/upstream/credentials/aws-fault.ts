import { SpandrelError } from '../../core/errors.ts';

/** What a failed call of the AWS SDK means, and its name in metrics. */
export interface AwsFault {
  readonly error: SpandrelError;
  readonly outcome: string;
}

/** The members of the SDK's errors that say what happened. */
interface SdkError extends Error {
  readonly $metadata?: { readonly httpStatusCode?: number };
  readonly $fault?: 'client' | 'server';
}

const THROTTLED =
  /^(Throttling|ThrottlingException|ThrottledException|TooManyRequestsException|RequestLimitExceeded)$/;

/** Tell what `error`, thrown by the AWS SDK, means. Its own words, which may hold names of accounts and roles, are the cause only. */
export function explainAwsFault(upstream: string, error: unknown): AwsFault {
  const { name, $fault, $metadata }: Partial<SdkError> = error instanceof Error ? error : {};
  const status = $metadata?.httpStatusCode;
  const fault = (code: SpandrelError['code'], outcome: string, words: string): AwsFault => ({
    outcome,
    error: new SpandrelError(code, `upstream ${upstream}: ${words}`, { cause: error }),
  });
  if (isWithoutAwsCredentials(error))
    return fault('UPSTREAM_CREDENTIALS_REFUSED', 'refused', 'no AWS credentials can be found');
  if (status === 429 || THROTTLED.test(name ?? ''))
    return fault('UPSTREAM_THROTTLED', 'throttled', 'AWS limits requests for tokens');
  if (name === 'TimeoutError') return fault('UPSTREAM_TIMEOUT', 'timeout', 'AWS does not answer in time');
  if ($fault === 'client' && status !== undefined && status < 500)
    return fault('UPSTREAM_CREDENTIALS_REFUSED', 'refused', `AWS refuses a token (${name ?? status})`);
  return fault('UPSTREAM_UNREACHABLE', 'unreachable', 'AWS cannot be asked for a token');
}

/** True if none of the places where the SDK looks has credentials. */
export function isWithoutAwsCredentials(error: unknown): boolean {
  return error instanceof Error && error.name === 'CredentialsProviderError';
}
