import type { ServerResponse } from 'node:http';
import { constants, Http2ServerResponse } from 'node:http2';

/**
 * End an answer so that its client cannot take what it has for all of it. Without HTTP/2 that is the end of the connection; with it
 * the stream's alone, with an error code: one that is destroyed without a code ends cleanly for some clients.
 */
export function breakOff(response: ServerResponse | Http2ServerResponse): void {
  if (response instanceof Http2ServerResponse) response.stream.close(constants.NGHTTP2_INTERNAL_ERROR);
  else response.destroy();
}
