import type { IncomingMessage } from 'node:http';
import { Http2ServerRequest } from 'node:http2';

const numbers = new WeakMap<object, number>();
let last = 0;

/** Tells the connections of clients apart, those of HTTP/2 too. Each gets the next number. */
export function connectionNumber(request: IncomingMessage | Http2ServerRequest): number {
  // In HTTP/2, `socket` is another object for each request.
  const connection =
    request instanceof Http2ServerRequest ? (request.stream.session ?? request) : request.socket;
  const known = numbers.get(connection);
  if (known !== undefined) return known;
  numbers.set(connection, ++last);
  return last;
}
