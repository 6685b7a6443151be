import type { ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import type { Writable } from 'node:stream';

import type { RegistryResponse } from './registry-response.ts';

/**
 * Send the head of a response. With HTTP/2 it does nothing if the client has closed the stream.
 * @returns where to write the body. With HTTP/2 that is the stream itself: Node's compatibility layer keeps
 * each stream open for trailers, which costs an empty frame, and a packet, after the last one.
 */
export function sendHead(
  response: ServerResponse | Http2ServerResponse,
  status: number,
  headers: RegistryResponse['headers'],
): Writable {
  if (!(response instanceof Http2ServerResponse)) return response.writeHead(status, headers);
  const { stream } = response;
  const { connection: _, ...allowed } = headers;
  if (!stream.destroyed && !stream.closed) stream.respond({ ':status': status, ...allowed });
  return stream;
}
