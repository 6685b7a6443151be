/**
 * What can go wrong, once. `status` is the HTTP status, `ociCode` the code in the error body (the name that the OCI
 * distribution spec gives it where there is one), `retryable` says whether the same request may succeed later.
 * The README's error table is generated from this one.
 */
export const ERRORS = {
  NAME_INVALID: entry(400, false, 'The repository name is not a valid OCI name.'),
  TAG_INVALID: entry(400, false, 'The tag is not a valid OCI tag.'),
  DIGEST_INVALID: entry(
    400,
    false,
    'The digest is not `sha256:` or `sha512:` with the right number of hex digits.',
  ),
  QUERY_INVALID: entry(400, false, 'A query parameter or a request body has a value that cannot be used.'),
  REQUEST_INVALID: entry(
    400,
    false,
    'The request is malformed, too large or too slow; its connection is closed.',
  ),
  UNAUTHORIZED: entry(401, false, 'The proxy wants credentials, or does not take those that were sent.'),
  DENIED: entry(403, false, 'The client, or the registry it named in `ns`, is not allowed here.'),
  NAME_UNKNOWN: entry(404, false, 'The upstream has no such repository.'),
  MANIFEST_UNKNOWN: entry(404, false, 'The upstream has no such tag or manifest.'),
  BLOB_UNKNOWN: entry(404, false, 'The upstream has no such blob in this repository.'),
  FILE_UNKNOWN: entry(404, false, 'The layer or image has no such file.'),
  SPAN_UNKNOWN: entry(404, false, 'The layer has no span of this number.'),
  PLATFORM_UNKNOWN: entry(404, false, 'The image has no manifest for this platform.'),
  JOB_UNKNOWN: entry(404, false, 'There is no such job, or it is too long ago.'),
  ROUTE_UNKNOWN: entry(404, false, 'No such route.'),
  UNSUPPORTED: entry(405, false, 'The proxy is read-only: push to the upstream registry itself.'),
  FILE_NOT_REGULAR: entry(
    409,
    false,
    'The path is no regular file (a device, a fifo, a link that leads nowhere).',
  ),
  RANGE_INVALID: entry(416, false, 'The range lies outside of the content.'),
  RANGE_TOO_COSTLY: entry(
    422,
    false,
    'To get to the range more of a zstd frame has to be decompressed than `limits.maxSkippedBytes`; ask for fewer ranges, or read the layer in order.',
  ),
  EXPECTATION_FAILED: entry(417, false, 'The request expects what the proxy does not do (`Expect`).'),
  LAYER_TOO_LARGE: entry(
    422,
    false,
    'The layer inflates to more than `limits.maxUncompressedBytes`, has more files than `limits.maxTocEntries`, or what names and describes them takes more than `limits.maxTocBytes`.',
  ),
  LAYER_UNSUPPORTED: entry(
    422,
    false,
    'The blob is no layer that can be read (no tar, an unknown compression), or one that SOCI has no zTOC for (zstd).',
  ),
  LAYER_CORRUPT: entry(422, false, 'The compressed stream of the layer is damaged or cut short.'),
  TAR_INVALID: entry(
    422,
    false,
    'The decompressed layer is not a well-formed tar archive, or has an entry that no node can unpack.',
  ),
  TAR_UNSUPPORTED: entry(
    422,
    false,
    'The tar has an entry that SOCI cannot index (a sparse file, say); its bytes can still be read.',
  ),
  IMAGE_UNSUPPORTED: entry(
    422,
    false,
    'The manifest is no image: no index, no image manifest, or too deeply nested.',
  ),
  INDEX_EMPTY: entry(
    422,
    false,
    'The image has no layer that SOCI can index: all are too small, of another compression, or at fault.',
  ),
  INDEX_MALFORMED: entry(
    500,
    false,
    'A stored or fetched index is damaged; it is thrown away and built again.',
  ),
  INDEX_UNMOUNTABLE: entry(
    422,
    false,
    'The index would be refused by the snapshotter at mount; it is not published.',
  ),
  SPAN_CORRUPT: entry(502, true, 'A span does not match its digest or checksum.'),
  BLOB_CORRUPT: entry(
    502,
    true,
    'What the upstream sent does not match the digest; it has been thrown away.',
  ),
  UPSTREAM_CREDENTIALS_REFUSED: entry(
    502,
    false,
    'The upstream refuses the credentials that the proxy has for it, or they are missing: see `auth` of the upstream.',
  ),
  UPSTREAM_PROXY_REFUSED: entry(
    502,
    true,
    'The outbound proxy does not let the proxy through to the upstream: see `proxy` of the upstream, or `HTTPS_PROXY` and `HTTP_PROXY`.',
  ),
  UPSTREAM_PROTOCOL: entry(502, true, 'The upstream answered with something a registry must not answer.'),
  UPSTREAM_UNREACHABLE: entry(502, true, 'The upstream could not be reached or broke the connection.'),
  UPSTREAM_THROTTLED: entry(503, true, 'The upstream limits requests; try again later.'),
  UPSTREAM_TIMEOUT: entry(504, true, 'The upstream did not answer, or stopped sending, in time.'),
  STORE_FULL: entry(
    503,
    true,
    'The blob does not fit into the store: raise `storage.maxBytes` or free the disk.',
  ),
  STORE_FAILED: entry(500, true, 'The store could not read or write a file.'),
  STORE_LOCKED: entry(
    500,
    false,
    'Another process owns the store; each replica needs its own `storage.root`.',
  ),
  OVERLOADED: entry(503, true, 'Too much is going on; try again in a moment.'),
  WORKER_FAILED: entry(
    503,
    true,
    'A worker thread died or could not be started (memory, threads or file descriptors may be short); try again.',
  ),
  INDEX_PENDING: entry(503, true, 'The index is being built; try again in a moment.'),
  ANSWER_PENDING: entry(
    503,
    true,
    'The answer takes longer than this client waits; the work goes on, so ask again.',
  ),
  SHUTTING_DOWN: entry(503, true, 'The proxy is being stopped.'),
  CONFIG_INVALID: entry(500, false, 'The configuration cannot be used; every problem is listed.'),
  INTERNAL: entry(500, false, 'A defect in the proxy; the log has the request id and the cause.'),
} as const satisfies Record<string, ErrorEntry>;

/** A row of the error table. */
export interface ErrorEntry {
  readonly status: number;
  readonly retryable: boolean;
  readonly meaning: string;
}

/** Name of a row of the error table; also the `code` of the OCI error body. */
export type ErrorCode = keyof typeof ERRORS;

function entry(status: number, retryable: boolean, meaning: string): ErrorEntry {
  return { status, retryable, meaning };
}

/** The one error class: everything that is expected to go wrong carries a code of the table. */
export class SpandrelError extends Error {
  override name = 'SpandrelError';
  readonly code: ErrorCode;
  /** Facts for the error body; never a secret, never a signed URL. */
  readonly detail: Readonly<Record<string, unknown>> | undefined;

  constructor(
    code: ErrorCode,
    message: string,
    options: { cause?: unknown; detail?: Readonly<Record<string, unknown>> } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.detail = options.detail;
  }
}

/** True if `error` is a {@link SpandrelError} with one of `codes` (any code when none is given). */
export function isSpandrelError(error: unknown, ...codes: ErrorCode[]): error is SpandrelError {
  return error instanceof SpandrelError && (codes.length === 0 || codes.includes(error.code));
}

/** The code under which any error is reported: INTERNAL for what is none of ours. */
export function errorCodeOf(error: unknown): ErrorCode {
  return isSpandrelError(error) ? error.code : 'INTERNAL';
}
