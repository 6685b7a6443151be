import { ERRORS, SpandrelError } from '../core/errors.ts';

/** A response before it is sent. */
export interface RegistryAnswer {
  readonly status: number;
  /** Without Content-Length. */
  readonly headers: Readonly<Record<string, string>>;
  /** Body of GET; HEAD sends its length only. */
  readonly body: Uint8Array;
  /** Position of the body in the whole content. */
  readonly bodyStart: number;
}

/** A JSON response. */
export function jsonAnswer(
  value: unknown,
  mediaType = 'application/json',
  headers: Readonly<Record<string, string>> = {},
): RegistryAnswer {
  return {
    status: 200,
    headers: { 'content-type': mediaType, ...headers },
    body: Buffer.from(JSON.stringify(value)),
    bodyStart: 0,
  };
}

/** Error body of the OCI distribution spec. */
export function errorAnswer(
  error: SpandrelError,
  headers: Readonly<Record<string, string>> = {},
): RegistryAnswer {
  return {
    ...jsonAnswer({ errors: [{ code: error.code, message: error.message }] }, undefined, headers),
    status: ERRORS[error.code].status,
  };
}

/** A response with all of `bytes`, or with the part that a Range header requests. */
export function contentAnswer(
  bytes: Uint8Array,
  headers: Readonly<Record<string, string>>,
  range: string | undefined,
): RegistryAnswer {
  const size = bytes.length;
  const wanted = range === undefined ? undefined : parseRange(range, size);
  if (wanted === undefined) return { status: 200, headers, body: bytes, bodyStart: 0 };
  if (wanted === 'outside') {
    return errorAnswer(new SpandrelError('RANGE_INVALID', `outside the ${size} bytes: ${range}`), {
      'content-range': `bytes */${size}`,
    });
  }
  return {
    status: 206,
    headers: { ...headers, 'content-range': `bytes ${wanted.start}-${wanted.end - 1}/${size}` },
    body: bytes.subarray(wanted.start, wanted.end),
    bodyStart: wanted.start,
  };
}

/**
 * Parses one range, its end clamped: RFC 9110, section 14. `undefined` (the header is ignored) for several
 * ranges and for invalid ones.
 */
function parseRange(header: string, size: number): { start: number; end: number } | 'outside' | undefined {
  const match = /^bytes=(\d*)-(\d*)$/.exec(header);
  if (match === null) return undefined;
  const [, first = '', last = ''] = match;
  if (first === '' && last === '') return undefined;
  if (first === '')
    return Number(last) === 0 || size === 0
      ? 'outside'
      : { start: Math.max(0, size - Number(last)), end: size };
  const start = Number(first);
  const end = last === '' ? size : Math.min(size, Number(last) + 1);
  return start >= size || (last !== '' && Number(last) < start) ? 'outside' : { start, end };
}
