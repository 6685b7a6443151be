import { isSpandrelError, SpandrelError } from '../../core/errors.ts';

/** Each attempt joins the running fill, or starts one with the caller's own repository first. */
const MAX_TRIES = 4;

/**
 * A fill failed because of what some repositories of its upstream sent. For a request of another repository
 * that proves nothing: it should be retried.
 */
export class SourceFault extends SpandrelError {
  /** True if only the repository of `repositoryKey` ({@link BlobSource.repositoryKey}) caused the failure. */
  readonly isOf: (repositoryKey: string | undefined) => boolean;

  constructor(
    { code, message, cause, detail }: SpandrelError,
    isOf: (repositoryKey: string | undefined) => boolean,
  ) {
    super(code, message, { cause, ...(detail === undefined ? {} : { detail }) });
    this.isOf = isOf;
  }
}

/**
 * Calls `use` up to four times, while it fails because of repositories other than `repositoryKey`.
 * @param mayRetry  false once the client has a part of the result
 * @throws what `use` throws
 */
export async function retryOwnSource<T>(
  use: () => Promise<T>,
  repositoryKey: string,
  mayRetry: () => boolean,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await use();
    } catch (error) {
      const isOthers = error instanceof SourceFault && !error.isOf(repositoryKey);
      if (!isOthers || tries === MAX_TRIES || !mayRetry()) throw error;
    }
  }
}

/** BLOB_CORRUPT of a fill as the fault of the repositories that sent the bytes; another error as it is. */
export function corruptBySource(
  error: unknown,
  isOf: (repositoryKey: string | undefined) => boolean,
): unknown {
  const isCorrupt = isSpandrelError(error, 'BLOB_CORRUPT') && !(error instanceof SourceFault);
  return isCorrupt ? new SourceFault(error, isOf) : error;
}
