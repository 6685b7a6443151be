import { isSpandrelError, SpandrelError } from '../../core/errors.ts';

/** Each try joins the fill that runs then, or begins one that asks the caller's own repository first. */
const MAX_TRIES = 4;

/**
 * A fill has failed by what repositories of its upstream sent or said. That proves nothing to a request that names
 * another repository: try such a request again.
 */
export class SourceFault extends SpandrelError {
  /** True if the repository of `origin` ({@link BlobSource.origin}) alone is at fault. */
  readonly isOf: (origin: string | undefined) => boolean;

  constructor(
    { code, message, cause, detail }: SpandrelError,
    isOf: (origin: string | undefined) => boolean,
  ) {
    super(code, message, { cause, ...(detail === undefined ? {} : { detail }) });
    this.isOf = isOf;
  }
}

/**
 * Call `use` again, three times at most, while it fails by what other repositories than that of `origin` sent.
 * @param mayRetry  false once the client has a part of the result
 * @throws what `use` throws
 */
export async function retryOwnSource<T>(
  use: () => Promise<T>,
  origin: string,
  mayRetry: () => boolean,
): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await use();
    } catch (error) {
      const isOthers = error instanceof SourceFault && !error.isOf(origin);
      if (!isOthers || tries === MAX_TRIES || !mayRetry()) throw error;
    }
  }
}

/** BLOB_CORRUPT of a fill as the fault of the repositories that sent the bytes; another error as it is. */
export function corruptBySource(error: unknown, isOf: (origin: string | undefined) => boolean): unknown {
  const isCorrupt = isSpandrelError(error, 'BLOB_CORRUPT') && !(error instanceof SourceFault);
  return isCorrupt ? new SourceFault(error, isOf) : error;
}
