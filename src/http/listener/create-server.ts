import { createServer, METHODS, type RequestListener, type Server } from 'node:http';
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';

import { answerClientError, refuseMethod, refuseTunnel } from './client-error.ts';
import { certificateRequest, contextOptions, type TlsMaterial } from './tls-material.ts';

/** What a stream may have waiting: pieces of an answer are written one after the other, and none is larger than a span. */
const MAX_STREAM_MEGABYTES = 4;

/** Bounds of what a client may send, and of how long it may take. */
export interface ServerLimits {
  /** For the TLS handshake, a request's head, and a body that nobody wants. */
  readonly headersTimeoutMs: number;
  readonly maxHeaderBytes: number;
  /** Longest time in which nothing moves on a connection. */
  readonly stallTimeoutMs: number;
  readonly maxStreams: number;
}

export type NodeServer = Server | Http2SecureServer;

/** Longer than the pause that load balancers make between requests on a connection (60 s, mostly). */
const KEEP_ALIVE_MS = 72_000;
const CHECK_INTERVAL_MS = 1_000;

/** A server for `handler`: HTTP/1.1, and HTTP/2 where there is TLS and the client offers it. Does not listen yet. */
export function createNodeServer(
  handler: RequestListener,
  limits: ServerLimits,
  tls: TlsMaterial | undefined,
): NodeServer {
  const { headersTimeoutMs, maxHeaderBytes, stallTimeoutMs, maxStreams } = limits;
  const http1 = {
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: headersTimeoutMs,
    // No request that is answered has a body.
    requestTimeout: headersTimeoutMs,
    connectionsCheckingInterval: Math.min(CHECK_INTERVAL_MS, headersTimeoutMs),
    keepAliveTimeout: KEEP_ALIVE_MS,
    // The default of node:http alone. With Nagle's algorithm the last segment of a response waits 40 ms for a delayed acknowledgement.
    noDelay: true,
    // Answered with an OCI error instead, and more than one is no better than none.
    requireHostHeader: false,
  };
  let server: NodeServer;
  if (tls === undefined) {
    server = createServer(http1, handler);
  } else {
    const http2Handler = handler as unknown as (
      request: Http2ServerRequest,
      response: Http2ServerResponse,
    ) => void;
    server = createSecureServer(
      {
        ...contextOptions(tls),
        ...certificateRequest(tls),
        ...http1,
        http1Options: http1,
        allowHTTP1: true,
        handshakeTimeout: headersTimeoutMs,
        // Node's own bound of 10 MB refuses streams of a client that has some dozens of large answers under way.
        maxSessionMemory: maxStreams * MAX_STREAM_MEGABYTES,
        settings: { maxConcurrentStreams: maxStreams, maxHeaderListSize: maxHeaderBytes, enablePush: false },
      } as Parameters<typeof createSecureServer>[0],
      (request: Http2ServerRequest, response: Http2ServerResponse) => {
        // Of HTTP/1.1 the parser refuses them.
        if (METHODS.includes(request.method)) http2Handler(request, response);
        else refuseMethod(response);
      },
    );
    server.on('session', (session: ServerHttp2Session) => {
      session.setTimeout(stallTimeoutMs, () => session.destroy());
      // What breaks a connection is its client's affair, as without HTTP/2.
      session.on('error', () => session.destroy());
    });
  }
  server.setTimeout(stallTimeoutMs);
  server.on('clientError', answerClientError);
  // Node would answer those two itself, without an OCI error.
  server.on('checkExpectation', handler);
  server.on('connect', refuseTunnel);
  return server;
}
