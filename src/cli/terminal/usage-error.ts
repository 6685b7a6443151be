/** An invalid command line; the message says what is expected. Exit status 2. */
export class UsageError extends Error {
  override name = 'UsageError';
}
