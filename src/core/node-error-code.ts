/** True if a system call failed. */
export function isSystemError(error: unknown): error is NodeJS.ErrnoException {
  return error instanceof Error && 'syscall' in error;
}

/**
 * The `code` of an error of Node or of a library: `ENOENT`, `ECONNRESET`, `Z_DATA_ERROR`; empty if it has
 * none.
 */
export function nodeErrorCode(error: unknown): string {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : '';
}
