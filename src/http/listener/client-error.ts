import { type IncomingMessage, type ServerResponse, STATUS_CODES } from 'node:http';
import type { Duplex } from 'node:stream';

import { SpandrelError } from '../../core/errors.ts';
import { answerError } from '../error-answer.ts';

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
  const status = STATUSES[error.code ?? ''] ?? 400;
  const { body } = answerError(
    new SpandrelError('REQUEST_INVALID', 'the request is no HTTP that is taken here'),
  );
  const text = body instanceof Uint8Array ? Buffer.from(body).toString() : '';
  socket.end(
    `HTTP/1.1 ${status} ${STATUS_CODES[status] ?? ''}\r\n` +
      `content-type: application/json\r\ncontent-length: ${Buffer.byteLength(text)}\r\nconnection: close\r\n\r\n${text}`,
    () => socket.destroy(),
  );
}
