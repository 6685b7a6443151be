import { ERRORS, SpandrelError } from '../core/errors.ts';

/** An answer before it is sent, and before anything goes wrong with it. */
export interface RegistryAnswer {
  readonly status: number;
  /** Without Content-Length. */
  readonly headers: Readonly<Record<string, string>>;
  /** What GET sends; HEAD announces its length. */
  readonly body: Uint8Array;
  /** Where the body begins in the whole content. */
  readonly bodyStart: number;
}

/** An answer that is a value of its own, such as a listing. */
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

/** All of `bytes`, or the part that a Range header asks for. */
export function contentAnswer(
  bytes: Uint8Array,
  headers: Readonly<Record<string, string>>,
  range: string | undefined,
): RegistryAnswer {
  const size = bytes.length;
  const wanted = range === undefined ? undefined : parseRange(range, size);
  if (wanted === undefined) return { status: 200, headers, body: bytes, bodyStart: 0 };
  if (wanted === 'outside') {
    return errorAnswer(new SpandrelError('RANGE_INVALID', `outside of the ${size} bytes: ${range}`), {
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

/** RFC 9110 section 14: one range, its end clamped; `undefined` (the header is ignored) for several of them and for what is none. */
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
