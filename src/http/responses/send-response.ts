import type { ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import type { Writable } from 'node:stream';

import { waitFor } from '../../core/wait-for.ts';
import type { ByteStream } from '../../images/contents/content.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';
import { COMMON_HEADERS, formatCacheStatus, type RegistryResponse } from './registry-response.ts';
import { abortResponse } from './abort-response.ts';
import { sendHead } from './send-head.ts';
import type { SendTurns } from './send-turns.ts';

export interface SendResult {
  readonly status: number;
  /** Body bytes handed to the socket. */
  readonly bytes: number;
  readonly source: ByteSource | undefined;
  /** When the head was written, by `performance.now()`. */
  readonly headAt?: number;
  readonly contentDigest?: string | undefined;
  /** Why the response was aborted after its head was sent. */
  readonly failure?: unknown;
  /** The client had closed the connection before the response was aborted. */
  readonly clientAborted?: boolean;
}

export interface SendOptions {
  /** The request was a HEAD. */
  readonly head: boolean;
  readonly signal: AbortSignal;
  readonly stallTimeoutMs: number;
  /** How long to wait for the first chunk before the head is sent without it; no limit if `undefined`. */
  readonly headAloneMs: number | undefined;
  readonly requestId: string;
  /** Shared by all responses of the server. */
  readonly turns: SendTurns;
}

/**
 * Write a response to `raw`. Waits for the first chunk of a stream before it writes the head: if the stream
 * fails by then, it throws, and the caller can still send an error. A later failure aborts the response, and
 * the client sees a short body.
 */
export async function sendResponse(
  raw: ServerResponse,
  response: RegistryResponse,
  options: SendOptions,
): Promise<SendResult> {
  abortWhenStalled(raw, options.stallTimeoutMs);
  const { requestId } = options;
  try {
    if (options.head) return finish(raw, headOf(response), undefined, requestId);
    if (typeof response.body !== 'function') return finish(raw, response, response.body, requestId);
    const stream = response.body();
    const first = stream.next();
    const isThere = await arrivesWithin(first, options.headAloneMs);
    const { sink, ...head } = await writeHeadOf(stream, () => writeHead(raw, response, requestId));
    if (!isThere) raw.flushHeaders();
    const sent = { bytes: 0 };
    try {
      const lengthBytes = lengthOf(response);
      await pump(sink, first, stream, { ...options, lengthBytes }, sent);
      // If a short body ended cleanly, the client would read the next response as its rest.
      if (lengthBytes !== undefined && lengthBytes !== sent.bytes)
        throw new Error(`the body has ${sent.bytes} bytes instead of ${lengthBytes}`);
      if (!sink.writableEnded) sink.end();
      return { ...head, source: sourceOf(response), bytes: sent.bytes };
    } catch (failure) {
      // Before the abort closes the connection, which looks as if the client had done it.
      const clientAborted = options.signal.aborted;
      abortResponse(raw);
      return { ...head, bytes: sent.bytes, failure, clientAborted };
    }
  } finally {
    await response.dispose?.();
  }
}

/** If the head cannot be written, ends the stream. */
async function writeHeadOf<T>(stream: ByteStream, write: () => T): Promise<T> {
  try {
    return write();
  } catch (error) {
    await stream.return();
    throw error;
  }
}

/** False if `chunk` takes longer than `ms`. @throws the rejection of `chunk`, if that comes first */
function arrivesWithin(chunk: Promise<unknown>, ms: number | undefined): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const timer = ms === undefined ? undefined : setTimeout(resolve, ms, false);
  chunk.then(() => resolve(true), reject).finally(() => clearTimeout(timer));
  return promise;
}

/**
 * Abort if the client reads nothing of what waits for it: it holds a connection, a chunk and a blob. The
 * socket's timer restarts with each progress of a write. If nothing waits, the proxy is slow, not the client.
 */
function abortWhenStalled(raw: ServerResponse, stallTimeoutMs: number): void {
  raw.setTimeout(stallTimeoutMs, () => {
    if (waitingBytes(raw) > 0) abortResponse(raw);
  });
}

/** With HTTP/2 only this stream counts: others may be waiting on the same connection. */
function waitingBytes(raw: ServerResponse | Http2ServerResponse): number {
  if (raw instanceof Http2ServerResponse) return raw.stream.writableLength;
  return raw.writableLength + (raw.socket?.writableLength ?? 0);
}

/**
 * The response to HEAD. An error has no Content-Length: GET may have a longer body, with the upstream's
 * message, and a wrong length is forbidden (RFC 9110, section 8.6).
 */
function headOf(response: RegistryResponse): RegistryResponse {
  if (response.status < 400) return response;
  const { 'content-length': _, ...headers } = response.headers;
  return { ...response, headers };
}

function finish(
  raw: ServerResponse,
  response: RegistryResponse,
  body: Uint8Array | undefined,
  requestId: string,
): SendResult {
  const { sink, ...head } = writeHead(raw, response, requestId);
  if (!sink.destroyed) sink.end(body);
  return { ...head, bytes: body?.byteLength ?? 0 };
}

function writeHead(
  raw: ServerResponse,
  response: RegistryResponse,
  requestId: string,
): Omit<SendResult, 'bytes'> & { readonly sink: Writable } {
  const source = sourceOf(response);
  const sink = sendHead(raw, response.status, {
    'cache-control': 'no-cache',
    ...COMMON_HEADERS,
    ...response.headers,
    'x-request-id': requestId,
    ...(source === undefined ? {} : { 'cache-status': formatCacheStatus(source) }),
  });
  const digest = response.headers['docker-content-digest'];
  const contentDigest = typeof digest === 'string' ? digest : undefined;
  return { sink, status: response.status, source, headAt: performance.now(), contentDigest };
}

function sourceOf({ source }: RegistryResponse): ByteSource | undefined {
  return typeof source === 'function' ? source() : source;
}

async function pump(
  sink: Writable,
  first: Promise<IteratorResult<Uint8Array, void>>,
  stream: ByteStream,
  { signal, turns, lengthBytes }: SendOptions & { readonly lengthBytes: number | undefined },
  sent: { bytes: number },
): Promise<void> {
  try {
    for (let next = await first; next.done !== true; next = await stream.next()) {
      await turns.take(next.value.byteLength);
      signal.throwIfAborted();
      sent.bytes += next.value.byteLength;
      // If a client closes its HTTP/2 stream, `signal` is aborted only later.
      if (sink.writableEnded) throw Object.assign(new Error('the client aborted'), { code: 'EPIPE' });
      // With HTTP/2 the last frame then carries the end of the stream.
      const isLast = sent.bytes === lengthBytes;
      await written(sink, next.value, isLast, signal);
    }
  } finally {
    await stream.return();
  }
}

function lengthOf({ headers }: RegistryResponse): number | undefined {
  const length = headers['content-length'];
  return length === undefined ? undefined : Number(length);
}

/** Resolves once the system has taken the chunk: only then may its buffer be filled again. */
function written(sink: Writable, chunk: Uint8Array, isLast: boolean, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const settle = (error?: Error | null): void => (error ? reject(error) : resolve());
  if (isLast) sink.end(chunk, settle);
  else sink.write(chunk, settle);
  return waitFor(promise, signal);
}
