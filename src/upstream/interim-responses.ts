import type { Socket } from 'node:net';

/** The status line of a 1xx response. 101 is none that may be passed over: another protocol follows it. */
const INTERIM = /^HTTP\/1\.[01] 1(?!01)[0-9]{2}[ \r\n]/;
const LONGEST_STATUS_LINE_START = 'HTTP/1.1 103 '.length;
const END_OF_HEAD = Buffer.from('\r\n\r\n');
/** More than any server sends before the response proper. */
const MAX_HELD_BYTES = 64 * 1024;

/**
 * Have `socket`, which has no requests in flight on top of each other, read as if the server sent no 1xx responses. undici takes a 100
 * that it has not asked for as the end of the connection; RFC 9110, section 15.2, has clients pass over all of them.
 */
export function skipInterimResponses(socket: Socket): void {
  const [read, write] = [socket.read.bind(socket), socket.write.bind(socket)];
  /** A request has been written, and the response to it has not begun. */
  let isAwaiting = false;
  let held: Buffer | undefined;
  socket.write = ((...parameters: Parameters<typeof write>) => {
    isAwaiting = true;
    return write(...parameters);
  }) as typeof socket.write;
  socket.read = (size?: number): unknown => {
    for (;;) {
      const chunk = read(size) as Buffer | null;
      if (chunk === null || !isAwaiting) return chunk;
      const bytes = skipInterim(held === undefined ? chunk : Buffer.concat([held, chunk]));
      isAwaiting = isInterim(bytes) && bytes.byteLength <= MAX_HELD_BYTES;
      held = isAwaiting ? bytes : undefined;
      if (!isAwaiting) return bytes;
    }
  };
}

/** What is behind the 1xx responses that are there as a whole. */
function skipInterim(bytes: Buffer): Buffer {
  let start = 0;
  while (INTERIM.test(bytes.toString('latin1', start, start + LONGEST_STATUS_LINE_START))) {
    const end = bytes.indexOf(END_OF_HEAD, start);
    if (end < 0) break;
    start = end + END_OF_HEAD.byteLength;
  }
  return bytes.subarray(start);
}

/** True if it is, or may become, the beginning of a 1xx response. */
function isInterim(bytes: Buffer): boolean {
  const begin = bytes.toString('latin1', 0, LONGEST_STATUS_LINE_START);
  if (begin.length === LONGEST_STATUS_LINE_START) return INTERIM.test(begin);
  return ['HTTP/1.1 1', 'HTTP/1.0 1'].some((line) => line.startsWith(begin) || begin.startsWith(line));
}
