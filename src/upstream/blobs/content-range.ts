import type { ByteRange } from '../../core/byte-range.ts';

/** Formats a Range header `bytes=a-b`: RFC 9110, section 14.2. The range must not be empty. */
export function formatRange({ start, end }: ByteRange): string {
  return `bytes=${start}-${end - 1}`;
}

/** The range of a body, as `Content-Range` says. */
export interface ContentRange {
  readonly range: ByteRange;
  /** `undefined` for `*`. */
  readonly totalBytes: number | undefined;
}

/** Parses `Content-Range: bytes a-b/total`; `undefined` if it is malformed or impossible. */
export function parseContentRange(header: string | undefined): ContentRange | undefined {
  const match = /^\s*bytes[ =]\s*(\d{1,16})-(\d{1,16})\/(\d{1,16}|\*)\s*$/i.exec(header ?? '');
  if (match === null) return undefined;
  const [, first, last, total] = match;
  const range = { start: Number(first), end: Number(last) + 1 };
  const totalBytes = total === '*' ? undefined : Number(total);
  const isSound = range.start < range.end && range.end <= (totalBytes ?? Number.MAX_SAFE_INTEGER);
  return isSound && Number.isSafeInteger(totalBytes ?? 0) ? { range, totalBytes } : undefined;
}

/** Size of the content from the `Content-Range` of a 416. */
export function parseUnsatisfiedRange(header: string | undefined): number | undefined {
  const match = /^bytes \*\/(\d{1,15})$/.exec(header ?? '');
  return match === null ? undefined : Number(match[1]);
}

/** `undefined` if `Content-Length` is missing or not a number. */
export function parseContentLength(header: string | undefined): number | undefined {
  const length = /^\d{1,16}$/.test(header ?? '') ? Number(header) : undefined;
  return length !== undefined && Number.isSafeInteger(length) ? length : undefined;
}
