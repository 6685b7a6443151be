import type { ByteRange } from '../core/byte-range.ts';

/** `bytes=a-b` of a request: RFC 9110, section 14.2. The range must not be empty. */
export function formatRange({ start, end }: ByteRange): string {
  return `bytes=${start}-${end - 1}`;
}

/** `Content-Range: bytes a-b/total`; `undefined` if it says anything else, an unknown total included. */
export function parseContentRange(
  header: string | undefined,
): { range: ByteRange; totalBytes: number } | undefined {
  const match = /^bytes (\d{1,16})-(\d{1,16})\/(\d{1,16})$/.exec(header ?? '');
  if (match === null) return undefined;
  const [start, last, totalBytes] = match.slice(1).map(Number) as [number, number, number];
  const isSound = start <= last && last < totalBytes && Number.isSafeInteger(totalBytes);
  return isSound ? { range: { start, end: last + 1 }, totalBytes } : undefined;
}

/** Size of the content from the `Content-Range` of a 416. */
export function parseUnsatisfiedRange(header: string | undefined): number | undefined {
  const match = /^bytes \*\/(\d{1,15})$/.exec(header ?? '');
  return match === null ? undefined : Number(match[1]);
}

/** `undefined` where there is no `Content-Length`, or none that is a number. */
export function parseContentLength(header: string | undefined): number | undefined {
  const length = /^\d{1,16}$/.test(header ?? '') ? Number(header) : undefined;
  return length !== undefined && Number.isSafeInteger(length) ? length : undefined;
}
