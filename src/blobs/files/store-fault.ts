import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { shortageFault, shortageOf } from '../../core/system/shortage.ts';

/** Errors of a full disk, an exhausted quota, or a file beyond their limits. */
const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
/**
 * Errors that say nothing about a file: the next read may succeed. The last four are of network file systems.
 */
const PASSING: ReadonlySet<string> = new Set([
  'EAGAIN',
  'EBUSY',
  'EINTR',
  'ESTALE',
  'ETIMEDOUT',
  'ENOTCONN',
  'EHOSTDOWN',
]);

/**
 * The error for a failed file operation: STORE_FULL, STORE_FAILED, or RESOURCE_EXHAUSTED, which is no fault
 * of the disk. `doing` completes "the store could not …".
 */
export function storeFault(error: unknown, doing: string): SpandrelError {
  if (isSpandrelError(error)) return error;
  const code = nodeErrorCode(error);
  const suffix = code === '' ? '' : ` (${code})`;
  const shortage = shortageFault(error, `the store could not ${doing}${suffix}`);
  if (shortage !== undefined) return shortage;
  if (FULL.has(code))
    return new SpandrelError('STORE_FULL', `the disk is full: the store could not ${doing}`, {
      cause: error,
    });
  return new SpandrelError('STORE_FAILED', `the store could not ${doing}${suffix}`, { cause: error });
}

/** True if the store is unavailable at the moment: content then comes from the upstream. */
export function isStoreFault(error: unknown): error is SpandrelError {
  return isSpandrelError(error, 'STORE_FULL', 'STORE_FAILED', 'RESOURCE_EXHAUSTED', 'WORKER_FAILED');
}

/**
 * True if a read failed for a reason other than the file. @param error of the system, or made from one by
 * {@link storeFault}
 */
export function isPassingFault(error: unknown): boolean {
  if (isSpandrelError(error, 'WORKER_FAILED') || shortageOf(error) !== undefined) return true;
  return PASSING.has(nodeErrorCode(isSpandrelError(error) ? error.cause : error));
}
