/** True for a failed call of the operating system. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}

/** What Node and libraries in its manner call an error: `ENOENT`, `ECONNRESET`, `Z_DATA_ERROR`; empty if `error` has no such code. */
export function nodeErrorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
