import type { Socket } from 'node:net';

/** More than the largest head that undici accepts. */
const MAX_HELD_BYTES = 64 * 1024;
/** The status line of a 1xx response. 101 must not be skipped: another protocol follows it. */
const INTERIM = /^HTTP\/1\.[01] 1(?!01)[0-9]{2}[ \r\n]/;
const BEGIN = 'HTTP/1.';

/**
 * Mends the heads of responses that are read from `socket`, which has one request in flight at a time. undici
 * treats an unsolicited 100 as the end of the connection, and refuses heads that Go's HTTP client
 * (containerd, docker, skopeo) accepts: see {@link mendHead}.
 */
export function mendResponseHeads(socket: Socket): void {
  const [read, write] = [socket.read.bind(socket), socket.write.bind(socket)];
  /** A request has been written and its response has not begun. */
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
      const bytes = held === undefined ? chunk : Buffer.concat([held, chunk]);
      const response = takeResponse(bytes);
      isAwaiting = response === undefined && bytes.byteLength <= MAX_HELD_BYTES;
      held = isAwaiting ? bytes : undefined;
      if (!isAwaiting) return response ?? bytes;
    }
  };
}

/** `bytes` without leading 1xx responses and with a mended head; `undefined` while the head is incomplete. */
function takeResponse(bytes: Buffer): Buffer | undefined {
  for (let rest = bytes; ;) {
    const begin = rest.toString('latin1', 0, BEGIN.length);
    if (!BEGIN.startsWith(begin)) return rest;
    const end = endOfHead(rest);
    if (end === undefined) return undefined;
    const head = rest.toString('latin1', 0, end);
    if (!INTERIM.test(head)) {
      const mended = mendHead(head);
      return mended === head ? rest : Buffer.concat([Buffer.from(mended, 'latin1'), rest.subarray(end)]);
    }
    rest = rest.subarray(end);
  }
}

/** The position after the empty line. */
function endOfHead(bytes: Buffer): number | undefined {
  const end = bytes.indexOf('\n\r\n');
  // Lines may end with a bare line feed.
  const bareEnd = (end < 0 ? bytes : bytes.subarray(0, end + 1)).indexOf('\n\n');
  if (bareEnd >= 0) return bareEnd + 2;
  return end < 0 ? undefined : end + 3;
}

/**
 * Matches heads that need mending: bare line feeds, folded lines, blanks before a colon, control characters,
 * several lengths.
 */
const ODD =
  /[^\r]\n|\n[ \t]|\n[^:\r\n]*[ \t]:|[\0-\x08\x0b\x0c\x0e-\x1f\x7f]|\ncontent-length[^]*\n(content-length|transfer-encoding)|\ntransfer-encoding[^]*\ncontent-length/i;

/**
 * Rewrites `head` as RFC 9112 requires if its meaning is clear: lines end with CRLF (section 2.2) and are not
 * folded (5.2), no blanks before the colon (5.1), no control characters in values, and one length (6.3): of
 * equal lengths one stays, and chunked encoding removes all. A connection with conflicting lengths is not
 * reused.
 */
export function mendHead(head: string): string {
  if (!ODD.test(head)) return head;
  const [statusLine = '', ...lines] = head
    .replaceAll(/\r?\n[ \t]+/g, ' ')
    .split(/\r?\n/)
    .filter((line) => line !== '')
    .map((line) => line.replaceAll(/[\0-\x08\x0b-\x1f\x7f]/g, ' ').replace(/^([^:]*[^:\s])[ \t]+:/, '$1:'));
  const isLength = (line: string): boolean => /^content-length:/i.test(line);
  const lengths = lines.filter(isLength);
  const isChunked = lines.some((line) => /^transfer-encoding:.*chunked\s*$/i.test(line));
  const isContradiction = isChunked && lengths.length > 0;
  const others = lines.filter((line) => !isLength(line) && !(isContradiction && /^connection:/i.test(line)));
  const values = new Set(lengths.map((line) => line.slice(line.indexOf(':') + 1).trim()));
  // Two different lengths stay: undici refuses them.
  const counted = isChunked ? [] : Array.from(values, (value) => `Content-Length: ${value}`);
  const closing = isContradiction ? ['Connection: close'] : [];
  return [statusLine, ...others, ...counted, ...closing, '', ''].join('\r\n');
}
