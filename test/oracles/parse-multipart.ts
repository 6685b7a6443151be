import type { ByteRange } from '../../src/core/byte-range.ts';

export interface RangePart {
  readonly range: ByteRange;
  readonly totalBytes: number;
  readonly bytes: Buffer;
}

/**
 * The parts of a `multipart/byteranges` body, each of the length that its Content-Range says, up to the
 * closing delimiter.
 */
export function parseMultipart(body: Buffer, contentType: string): RangePart[] {
  const [, boundary = ''] = /^multipart\/byteranges; boundary="?([^"]+)"?$/.exec(contentType) ?? [];
  const parts: RangePart[] = [];
  let position = 0;
  const take = (text: string): boolean => {
    const isThere = body.toString('latin1', position, position + text.length) === text;
    if (isThere) position += text.length;
    return isThere;
  };
  while (take(`${parts.length === 0 ? '' : '\r\n'}--${boundary}\r\n`)) {
    const headEnd = body.indexOf('\r\n\r\n', position);
    const head = body.toString('latin1', position, headEnd);
    const [, first, last, total] = /^content-range: bytes (\d+)-(\d+)\/(\d+)$/im.exec(head) ?? [];
    const range = { start: Number(first), end: Number(last) + 1 };
    position = headEnd + 4 + range.end - range.start;
    parts.push({ range, totalBytes: Number(total), bytes: body.subarray(headEnd + 4, position) });
  }
  if (!take(`\r\n--${boundary}--\r\n`) || position !== body.byteLength)
    throw new Error(`no multipart/byteranges: stops at ${position} of ${body.byteLength}`);
  return parts;
}
