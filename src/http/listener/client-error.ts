import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import type { Duplex } from 'node:stream';

import { SpandrelError } from '../../core/errors.ts';
import { type BytesResponse, COMMON_HEADERS } from '../responses/registry-response.ts';
import { errorResponse } from '../responses/error-response.ts';

const METHOD_UNKNOWN = new SpandrelError('UNSUPPORTED', 'no route has this method');

interface HttpSocket extends Duplex {
  /** The answer that the connection is busy with, if any; Node keeps it here. */
  readonly _httpMessage?: ServerResponse | null;
  /** `incoming` is there while the body of a request is being read. */
  readonly parser?: { readonly incoming?: IncomingMessage | null } | null;
}

const STATUSES: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};

/**
 * Ends a connection whose client speaks no HTTP that can be trusted, with an OCI error where an answer has not been begun: bytes in
 * the middle of one would pass for its body.
 */
export function answerClientError(error: NodeJS.ErrnoException, socket: HttpSocket): void {
  const { _httpMessage: answer, parser } = socket;
  const isAnswered = answer?.headersSent === true || (!answer && parser?.incoming);
  if (isAnswered || !socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const answered = errorResponse(new SpandrelError('REQUEST_INVALID', 'malformed HTTP request'));
  endWith(socket, { ...answered, status: STATUSES[error.code ?? ''] ?? answered.status });
}

/** Answers CONNECT: the proxy opens no tunnels. With HTTP/2 the request has a response of its own, else the socket. */
export function refuseTunnel(_request: unknown, to: Duplex | Http2ServerResponse): void {
  if (to instanceof Http2ServerResponse) refuseMethod(to);
  else endWith(to, errorResponse(METHOD_UNKNOWN));
}

/** Answers a method that nobody knows. */
export function refuseMethod(response: Http2ServerResponse): void {
  const { status, headers, body } = errorResponse(METHOD_UNKNOWN);
  response.writeHead(status, { ...COMMON_HEADERS, ...headers }).end(body);
}

/** The last answer on a connection. */
function endWith(socket: Duplex, { status, headers, body }: BytesResponse): void {
  const lines = Object.entries({ ...COMMON_HEADERS, ...headers, connection: 'close' }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  socket.on('error', () => socket.destroy());
  const head = Buffer.from(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n`);
  socket.end(Buffer.concat([head, body]), () => socket.destroy());
}
