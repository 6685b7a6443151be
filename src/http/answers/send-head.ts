import type { ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import type { Writable } from 'node:stream';

import type { Answer } from './answer.ts';

/**
 * Send the head of a response. With HTTP/2 nothing happens if the client has gone.
 * @returns what takes the body: with HTTP/2 the stream itself. Node's imitation of HTTP/1 keeps each stream open for trailers, which costs
 * an empty frame behind the last one, and a packet.
 */
export function sendHead(
  response: ServerResponse | Http2ServerResponse,
  status: number,
  headers: Answer['headers'],
): Writable {
  if (!(response instanceof Http2ServerResponse)) return response.writeHead(status, headers);
  const { stream } = response;
  const { connection: _, ...allowed } = headers;
  if (!stream.destroyed && !stream.closed) stream.respond({ ':status': status, ...allowed });
  return stream;
}
