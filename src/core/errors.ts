/**
 * Every error code with its HTTP status, whether the same request may succeed later, and its meaning. Codes
 * of the OCI distribution spec keep their names. `docs/reference/errors.md` is generated from this table.
 */
export const ERRORS = {
  NAME_INVALID: entry(400, false, 'The repository name is not a valid OCI name.'),
  TAG_INVALID: entry(400, false, 'The tag is not a valid OCI tag.'),
  DIGEST_INVALID: entry(
    400,
    false,
    'The digest is not `sha256:` or `sha512:` with the right number of hex digits.',
  ),
  QUERY_INVALID: entry(400, false, 'A query parameter or a request body has an invalid value.'),
  REQUEST_INVALID: entry(
    400,
    false,
    'The request is malformed, too large or too slow. The proxy closes the connection.',
  ),
  UNAUTHORIZED: entry(401, false, 'The proxy requires credentials, or refuses those that were sent.'),
  DENIED: entry(403, false, 'The client, or the registry that it named in `ns`, is not allowed.'),
  NAME_UNKNOWN: entry(404, false, 'The upstream has no such repository.'),
  MANIFEST_UNKNOWN: entry(404, false, 'The upstream has no such tag or manifest.'),
  BLOB_UNKNOWN: entry(404, false, 'The upstream has no such blob in this repository.'),
  FILE_UNKNOWN: entry(404, false, 'The layer or image has no such file.'),
  SPAN_UNKNOWN: entry(404, false, 'The layer has no span with this number.'),
  PLATFORM_UNKNOWN: entry(404, false, 'The image has no manifest for this platform.'),
  PROFILE_UNKNOWN: entry(404, false, 'The proxy has seen no start of an image of this repository.'),
  JOB_UNKNOWN: entry(404, false, 'There is no such job, or the proxy has forgotten it.'),
  ROUTE_UNKNOWN: entry(404, false, 'There is no such route.'),
  UNSUPPORTED: entry(405, false, 'The proxy is read-only: push to the upstream registry itself.'),
  FILE_NOT_REGULAR: entry(
    409,
    false,
    'The path is not a regular file: a device, a fifo, a link that leads nowhere.',
  ),
  RANGE_INVALID: entry(416, false, 'The range is outside the content.'),
  RANGE_TOO_COSTLY: entry(
    422,
    false,
    'To reach the range, the proxy has to decompress more of a zstd frame than ' +
      '`limits.maxSkippedBytes`. Request fewer ranges, or read the layer in order.',
  ),
  EXPECTATION_FAILED: entry(417, false, 'The proxy does not support what the request has in `Expect`.'),
  LAYER_TOO_LARGE: entry(
    422,
    false,
    'The layer inflates to more than `limits.maxUncompressedBytes`, has more files than ' +
      '`limits.maxTocEntries`, or more bytes of names and attributes than `limits.maxTocBytes`.',
  ),
  LAYER_UNSUPPORTED: entry(
    422,
    false,
    'The blob is not a readable layer (no tar, an unknown compression), or SOCI has no zTOC for its ' +
      'format (zstd).',
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
    'The tar has an entry that SOCI cannot index, such as a sparse file. The span API still reads it.',
  ),
  IMAGE_UNSUPPORTED: entry(
    422,
    false,
    'The manifest is not an image: neither an index nor an image manifest, or nested too deeply.',
  ),
  INDEX_EMPTY: entry(
    422,
    false,
    'The image has no layer that SOCI can index: all are too small, of another compression, or faulty.',
  ),
  INDEX_MALFORMED: entry(
    500,
    false,
    'A stored or fetched index is damaged. The proxy discards it and builds it again.',
  ),
  INDEX_UNMOUNTABLE: entry(
    422,
    false,
    'The snapshotter would refuse the index at mount. The proxy does not publish it.',
  ),
  SPAN_CORRUPT: entry(502, true, 'A span does not match its digest or checksum.'),
  BLOB_CORRUPT: entry(
    502,
    true,
    'The bytes from the upstream do not match the digest. The proxy discards them.',
  ),
  UPSTREAM_CREDENTIALS_REFUSED: entry(
    502,
    false,
    'The upstream refuses the credentials of the proxy, or the proxy has none: see `auth` of the upstream.',
  ),
  UPSTREAM_PROXY_REFUSED: entry(
    502,
    true,
    'The outbound proxy refuses the connection to the upstream: see `proxy` of the upstream, or ' +
      '`HTTPS_PROXY` and `HTTP_PROXY`.',
  ),
  PUSH_REFUSED: entry(502, false, 'The upstream refuses what is pushed. The message has its words.'),
  TAG_IMMUTABLE: entry(409, false, 'The upstream does not let an existing tag point to another image.'),
  TAG_MOVED: entry(
    409,
    true,
    'The tag points to another image than the one that was indexed. Nothing was tagged: publish again.',
  ),
  UPSTREAM_PROTOCOL: entry(502, true, 'The response of the upstream violates the protocol of registries.'),
  UPSTREAM_UNREACHABLE: entry(502, true, 'The upstream is unreachable, or the connection broke.'),
  UPSTREAM_THROTTLED: entry(503, true, 'The upstream limits requests. Try again later.'),
  UPSTREAM_TIMEOUT: entry(504, true, 'The upstream did not respond in time, or stopped sending.'),
  STORE_FULL: entry(
    503,
    true,
    'The blob does not fit into the store: raise `storage.maxBytes`. Or the disk is full: free it, and do ' +
      'not raise the limit.',
  ),
  STORE_FAILED: entry(500, true, 'The store cannot read or write a file.'),
  STORE_LOCKED: entry(
    500,
    false,
    'Another process owns the store. Each replica needs its own `storage.root`.',
  ),
  LISTEN_FAILED: entry(
    500,
    false,
    'A listener cannot be opened: its port is taken, or its address is not one of this machine.',
  ),
  OVERLOADED: entry(503, true, 'The proxy has too much to do. Try again in a moment.'),
  WORKER_FAILED: entry(
    503,
    true,
    'A worker thread died or could not start: memory, threads or file descriptors may be short. Try again.',
  ),
  RESOURCE_EXHAUSTED: entry(
    503,
    true,
    'The proxy has no file descriptors, memory, threads or local ports left. The message names which one. ' +
      'The disk and the upstream are not at fault: raise the limit of the process. Try again.',
  ),
  INDEX_PENDING: entry(503, true, 'The index is being built. Try again in a moment.'),
  ANSWER_PENDING: entry(
    503,
    true,
    'The response takes longer than this client waits. The work goes on: try again.',
  ),
  SHUTTING_DOWN: entry(503, true, 'The proxy is shutting down.'),
  CONFIG_INVALID: entry(500, false, 'The configuration is invalid. The message lists every problem.'),
  INTERNAL: entry(500, false, 'A defect in the proxy. The log has the request id and the cause.'),
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

/** The only error class for expected failures. Each has a code of the table. */
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

/** The code that `error` is reported under; INTERNAL for an error of another class. */
export function errorCodeOf(error: unknown): ErrorCode {
  return isSpandrelError(error) ? error.code : 'INTERNAL';
}
