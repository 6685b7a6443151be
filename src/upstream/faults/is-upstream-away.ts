import { isSpandrelError, type SpandrelError } from '../../core/errors.ts';

/** True if a transfer broke that another request may complete. */
export function isBrokenTransfer(error: unknown): error is SpandrelError {
  return isSpandrelError(error, 'UPSTREAM_UNREACHABLE', 'UPSTREAM_TIMEOUT', 'UPSTREAM_PROTOCOL');
}

/** True if the upstream cannot be asked now, so that an earlier response may have to do. */
export function isUpstreamAway(error: unknown): error is SpandrelError {
  return isSpandrelError(
    error,
    'UPSTREAM_UNREACHABLE',
    'UPSTREAM_TIMEOUT',
    'UPSTREAM_THROTTLED',
    'UPSTREAM_PROXY_REFUSED',
    'RESOURCE_EXHAUSTED',
  );
}
