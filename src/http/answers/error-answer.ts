import { ERRORS, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { isJsonObject } from '../../core/json/json-object.ts';
import type { BytesAnswer } from './answer.ts';
import { jsonAnswer } from './answer.ts';

/** Seconds, where the upstream has not said; never 0: the snapshotter's retry loop panics on it (soci-snapshotter `service/resolver/client.go`, jitter). */
const RETRY_AFTER_SECONDS = 1;

/** Of every route of the registry listener. */
export const ALLOWED_METHODS = 'GET, HEAD, OPTIONS';

/** The OCI error body (distribution spec, "Error codes") of anything that was thrown; what is no SpandrelError is INTERNAL. */
export function answerError(thrown: unknown): BytesAnswer {
  const error = isSpandrelError(thrown)
    ? thrown
    : new SpandrelError('INTERNAL', 'something went wrong inside the proxy');
  const { status, retryable } = ERRORS[error.code];
  const headers: Record<string, string> = {};
  const toldSeconds = error.detail?.['retryAfterSeconds'];
  if (typeof toldSeconds === 'number') headers['retry-after'] = String(Math.max(1, toldSeconds));
  else if (retryable && status === 503) headers['retry-after'] = String(RETRY_AFTER_SECONDS);
  const rateLimit = error.detail?.['rateLimit'];
  if (isJsonObject(rateLimit)) Object.assign(headers, rateLimit);
  if (error.code === 'REQUEST_INVALID') headers['connection'] = 'close';
  if (status === 405) headers['allow'] = ALLOWED_METHODS;
  const sizeBytes = error.detail?.['sizeBytes'];
  if (error.code === 'RANGE_INVALID' && typeof sizeBytes === 'number')
    headers['content-range'] = `bytes */${sizeBytes}`;
  const body = { errors: [{ code: error.code, message: error.message, detail: error.detail ?? {} }] };
  return jsonAnswer(body, { status, headers });
}
