import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';

/** Errors of the file system that mean a full disk, a used-up quota, or a file beyond what either allows. */
const FULL: ReadonlySet<string> = new Set(['ENOSPC', 'EDQUOT', 'EFBIG']);
/** Errors that say nothing about a file: it may be read well the next time. The last four are of file systems on a network. */
const PASSING: ReadonlySet<string> = new Set([
  'EMFILE',
  'ENFILE',
  'ENOMEM',
  'EAGAIN',
  'EBUSY',
  'EINTR',
  'ESTALE',
  'ETIMEDOUT',
  'ENOTCONN',
  'EHOSTDOWN',
]);

/** A failed file operation as STORE_FULL or STORE_FAILED; `doing` completes "the store could not …". */
export function storeFault(error: unknown, doing: string): SpandrelError {
  if (isSpandrelError(error)) return error;
  const code = nodeErrorCode(error);
  if (FULL.has(code))
    return new SpandrelError('STORE_FULL', `the disk is full: the store could not ${doing}`, {
      cause: error,
    });
  return new SpandrelError('STORE_FAILED', `the store could not ${doing}${code === '' ? '' : ` (${code})`}`, {
    cause: error,
  });
}

/** True if the store cannot do at the moment what it is there for: what is to be served comes from the upstream then. */
export function isStoreFault(error: unknown): error is SpandrelError {
  return isSpandrelError(error, 'STORE_FULL', 'STORE_FAILED', 'WORKER_FAILED');
}

/** True if a read failed for a reason that lies outside of the file. @param error of the system, or made of one by {@link storeFault} */
export function isPassingFault(error: unknown): boolean {
  if (isSpandrelError(error, 'WORKER_FAILED')) return true;
  return PASSING.has(nodeErrorCode(isSpandrelError(error) ? error.cause : error));
}
