import type { ServerResponse } from 'node:http';
import { constants, Http2ServerResponse } from 'node:http2';

/**
 * End a response so that its client cannot mistake a part of the body for all of it. HTTP/1.1: closes the
 * connection. HTTP/2: resets the stream with an error code, because some clients take a reset without a code
 * for a clean end.
 */
export function abortResponse(response: ServerResponse | Http2ServerResponse): void {
  if (response instanceof Http2ServerResponse) response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}
