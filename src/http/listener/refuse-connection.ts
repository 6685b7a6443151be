import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import type { Duplex } from 'node:stream';

import { SpandrelError } from '../../core/errors.ts';
import { errorResponse } from '../responses/error-response.ts';
import { type BytesResponse, COMMON_HEADERS } from '../responses/registry-response.ts';

const METHOD_UNKNOWN = new SpandrelError('UNSUPPORTED', 'no route has this method');

/** The undocumented fields of a server's socket that tell what the connection is busy with. */
interface HttpSocket extends Duplex {
  /** The response that is being sent, if any. */
  readonly _httpMessage?: ServerResponse | null;
  /** `incoming` is set while the body of a request is being read. */
  readonly parser?: { readonly incoming?: IncomingMessage | null } | null;
}

const STATUSES: Readonly<Record<string, number>> = {
  HPE_HEADER_OVERFLOW: 431,
  ERR_HTTP_REQUEST_TIMEOUT: 408,
};

/**
 * End a connection that breaks HTTP. Sends an OCI error unless a response has begun: within one, the error
 * would read as its body.
 */
export function refuseConnection(error: NodeJS.ErrnoException, socket: HttpSocket): void {
  const { _httpMessage: response, parser } = socket;
  const hasBegun = response?.headersSent === true || (!response && parser?.incoming);
  if (hasBegun || !socket.writable || error.code === 'ECONNRESET') {
    socket.destroy();
    return;
  }
  const refusal = errorResponse(new SpandrelError('REQUEST_INVALID', 'malformed HTTP request'));
  endWith(socket, { ...refusal, status: STATUSES[error.code ?? ''] ?? refusal.status });
}

/** Refuse CONNECT. HTTP/1.1 gives the bare socket, HTTP/2 a response. */
export function refuseTunnel(_request: unknown, to: Duplex | Http2ServerResponse): void {
  if (to instanceof Http2ServerResponse) refuseMethod(to);
  else endWith(to, errorResponse(METHOD_UNKNOWN));
}

/** Refuse a method that Node does not know. */
export function refuseMethod(raw: Http2ServerResponse): void {
  const { status, headers, body } = errorResponse(METHOD_UNKNOWN);
  raw.writeHead(status, { ...COMMON_HEADERS, ...headers }).end(body);
}

/** Send a last response and close the connection. */
function endWith(socket: Duplex, { status, headers, body }: BytesResponse): void {
  const lines = Object.entries({ ...COMMON_HEADERS, ...headers, connection: 'close' }).map(
    ([name, value]) => `${name}: ${value}\r\n`,
  );
  socket.on('error', () => socket.destroy());
  const head = Buffer.from(`HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n${lines.join('')}\r\n`);
  socket.end(Buffer.concat([head, body]), () => socket.destroy());
}
