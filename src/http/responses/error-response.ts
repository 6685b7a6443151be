import { MIN_RETRY_AFTER_SECONDS } from '../../core/client-quirks.ts';
import { ERRORS, isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { isJsonObject } from '../../core/json/parse-json.ts';
import type { BytesResponse } from './registry-response.ts';
import { jsonResponse } from './registry-response.ts';

/** `Allow` of every route of the registry listener. */
export const ALLOWED_METHODS = 'GET, HEAD, OPTIONS';

/**
 * The OCI error response (distribution spec, "Error codes") for a thrown value; INTERNAL if it is not a
 * SpandrelError. Retry-After is what the upstream said, else the least.
 */
export function errorResponse(thrown: unknown): BytesResponse {
  const error = isSpandrelError(thrown)
    ? thrown
    : new SpandrelError('INTERNAL', 'something went wrong inside the proxy');
  const { status, retryable } = ERRORS[error.code];
  const headers: Record<string, string> = {};
  const toldSeconds = error.detail?.['retryAfterSeconds'];
  if (typeof toldSeconds === 'number')
    headers['retry-after'] = String(Math.max(MIN_RETRY_AFTER_SECONDS, toldSeconds));
  else if (retryable && status === 503) headers['retry-after'] = String(MIN_RETRY_AFTER_SECONDS);
  const rateLimit = error.detail?.['rateLimit'];
  if (isJsonObject(rateLimit)) Object.assign(headers, rateLimit);
  if (error.code === 'REQUEST_INVALID') headers['connection'] = 'close';
  if (status === 405) headers['allow'] = ALLOWED_METHODS;
  const sizeBytes = error.detail?.['sizeBytes'];
  if (error.code === 'RANGE_INVALID' && typeof sizeBytes === 'number')
    headers['content-range'] = `bytes */${sizeBytes}`;
  const body = { errors: [{ code: error.code, message: error.message, detail: error.detail ?? {} }] };
  return jsonResponse(body, { status, headers });
}
