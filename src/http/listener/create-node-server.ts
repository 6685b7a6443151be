import { createServer, METHODS, type RequestListener, type Server } from 'node:http';
import {
  createSecureServer,
  type Http2SecureServer,
  type Http2ServerRequest,
  type Http2ServerResponse,
  type ServerHttp2Session,
} from 'node:http2';

import { refuseConnection, refuseMethod, refuseTunnel } from './refuse-connection.ts';
import { certificateRequest, contextOptions, type TlsMaterial } from './tls-material.ts';

/** Most that one HTTP/2 stream has waiting: one chunk of a body, at most a span. */
const MAX_STREAM_MEGABYTES = 4;

/** How much a client may send, and how long it may take. */
export interface ServerLimits {
  /** For the TLS handshake, the head of a request, and a body. */
  readonly headersTimeoutMs: number;
  readonly maxHeaderBytes: number;
  /** A connection on which nothing moves for so long is closed. */
  readonly stallTimeoutMs: number;
  readonly maxStreams: number;
}

export type NodeServer = Server | Http2SecureServer;

/** Longer than load balancers keep idle connections, usually 60 s: the load balancer closes first. */
const KEEP_ALIVE_MS = 72_000;
const CHECK_INTERVAL_MS = 1_000;

/** A server that does not listen yet: HTTP/1.1, and HTTP/2 over TLS if the client offers it. */
export function createNodeServer(
  handler: RequestListener,
  limits: ServerLimits,
  tls: TlsMaterial | undefined,
): NodeServer {
  const { headersTimeoutMs, maxHeaderBytes, stallTimeoutMs, maxStreams } = limits;
  const http1 = {
    maxHeaderSize: maxHeaderBytes,
    headersTimeout: headersTimeoutMs,
    // The bodies that the admin API takes are small.
    requestTimeout: headersTimeoutMs,
    connectionsCheckingInterval: Math.min(CHECK_INTERVAL_MS, headersTimeoutMs),
    keepAliveTimeout: KEEP_ALIVE_MS,
    // Only `node:http` has it by default. With Nagle's algorithm the last segment of a response waits 40 ms
    // for a delayed acknowledgement.
    noDelay: true,
    // `readHost` checks it and sends an OCI error.
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
        // Node's default of 10 MB refuses streams while some dozens of large responses are being sent.
        maxSessionMemory: maxStreams * MAX_STREAM_MEGABYTES,
        settings: { maxConcurrentStreams: maxStreams, maxHeaderListSize: maxHeaderBytes, enablePush: false },
      } as Parameters<typeof createSecureServer>[0],
      (request: Http2ServerRequest, response: Http2ServerResponse) => {
        // The parser of HTTP/1.1 refuses unknown methods itself.
        if (METHODS.includes(request.method)) http2Handler(request, response);
        else refuseMethod(response);
      },
    );
    server.on('session', (session: ServerHttp2Session) => {
      session.setTimeout(stallTimeoutMs, () => session.destroy());
      // As without HTTP/2: a broken connection is no error of the server.
      session.on('error', () => session.destroy());
    });
  }
  server.setTimeout(stallTimeoutMs);
  server.on('clientError', refuseConnection);
  // Node's own responses to these two are no OCI errors.
  server.on('checkExpectation', handler);
  server.on('connect', refuseTunnel);
  return server;
}
