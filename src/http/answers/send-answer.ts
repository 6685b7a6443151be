import type { ServerResponse } from 'node:http';
import { Http2ServerResponse } from 'node:http2';
import type { Writable } from 'node:stream';

import { waitFor } from '../../core/wait-for.ts';
import type { ByteSource } from '../../telemetry/metrics.ts';
import { type Answer, type ByteStream, EVERY_ANSWER, formatCacheStatus } from './answer.ts';
import { breakOff } from './break-off.ts';
import { sendHead } from './send-head.ts';
import type { SendTurns } from './send-turns.ts';

export interface SendResult {
  readonly status: number;
  /** Body bytes handed to the socket. */
  readonly bytes: number;
  readonly source: ByteSource | undefined;
  /** When the head was written, on the clock of `performance`. */
  readonly headAt?: number;
  readonly contentDigest?: string | undefined;
  /** What broke the connection after the head was sent. */
  readonly failure?: unknown;
}

export interface SendOptions {
  /** The request was a HEAD. */
  readonly head: boolean;
  readonly signal: AbortSignal;
  readonly stallTimeoutMs: number;
  /** How long the first chunk of a stream is awaited before the head is sent without it; as long as it takes when not given. */
  readonly headAloneMs: number | undefined;
  readonly requestId: string;
  /** Of the server's answers. */
  readonly turns: SendTurns;
}

/**
 * Write an answer. The first chunk of a stream is awaited before the head is written, so that an early failure throws and can
 * still be answered with an error; a later one destroys the connection, which the client sees as a short body.
 */
export async function sendAnswer(
  response: ServerResponse,
  answer: Answer,
  options: SendOptions,
): Promise<SendResult> {
  cutWhenStalled(response, options.stallTimeoutMs);
  try {
    if (options.head) return finish(response, headOf(answer), undefined, options.requestId);
    if (answer.body === undefined) return finish(response, answer, undefined, options.requestId);
    if (typeof answer.body !== 'function') return finish(response, answer, answer.body, options.requestId);
    const stream = answer.body();
    const first = stream.next();
    const isThere = await comesWithin(first, options.headAloneMs);
    const { sink, ...head } = await writeHeadOf(stream, () => writeHead(response, answer, options.requestId));
    if (!isThere) response.flushHeaders();
    const sent = { bytes: 0 };
    try {
      const lengthBytes = lengthOf(answer);
      await pump(sink, first, stream, { ...options, lengthBytes }, sent);
      // A body that comes short must not end cleanly: the next answer of the connection would pass for the rest of it.
      if (lengthBytes !== undefined && lengthBytes !== sent.bytes)
        throw new Error(`${sent.bytes} bytes came of ${lengthBytes}`);
      if (!sink.writableEnded) sink.end();
      return { ...head, source: sourceOf(answer), bytes: sent.bytes };
    } catch (failure) {
      breakOff(response);
      return { ...head, bytes: sent.bytes, failure };
    }
  } finally {
    await answer.dispose?.();
  }
}

/** A head that cannot be written ends the stream behind it. */
async function writeHeadOf<T>(stream: ByteStream, write: () => T): Promise<T> {
  try {
    return write();
  } catch (error) {
    await stream.return();
    throw error;
  }
}

/** False if `awaited` takes longer. @throws what it throws by then */
function comesWithin(awaited: Promise<unknown>, ms: number | undefined): Promise<boolean> {
  const { promise, resolve, reject } = Promise.withResolvers<boolean>();
  const timer = ms === undefined ? undefined : setTimeout(resolve, ms, false);
  awaited.then(() => resolve(true), reject).finally(() => clearTimeout(timer));
  return promise;
}

/**
 * A client that takes nothing of what waits for it is cut off: it holds a connection, a chunk and the blob that it reads. The
 * socket's own timer counts, which any progress of a write begins anew; while nothing waits, it is we who are slow.
 */
function cutWhenStalled(response: ServerResponse, stallTimeoutMs: number): void {
  response.setTimeout(stallTimeoutMs, () => {
    if (waitingBytes(response) > 0) breakOff(response);
  });
}

/** With HTTP/2 other streams may be waiting on the same connection. */
function waitingBytes(response: ServerResponse | Http2ServerResponse): number {
  if (response instanceof Http2ServerResponse) return response.stream.writableLength;
  return response.writableLength + (response.socket?.writableLength ?? 0);
}

/** The answer to HEAD. GET of the same may have a longer error: with the upstream's words. Its length must not be guessed (RFC 9110, 8.6). */
function headOf(answer: Answer): Answer {
  if (answer.status < 400) return answer;
  const { 'content-length': _, ...headers } = answer.headers;
  return { ...answer, headers };
}

function finish(
  response: ServerResponse,
  answer: Answer,
  body: Uint8Array | undefined,
  requestId: string,
): SendResult {
  const { sink, ...head } = writeHead(response, answer, requestId);
  if (!sink.destroyed) sink.end(body);
  return { ...head, bytes: body?.byteLength ?? 0 };
}

function writeHead(
  response: ServerResponse,
  answer: Answer,
  requestId: string,
): Omit<SendResult, 'bytes'> & { readonly sink: Writable } {
  const source = sourceOf(answer);
  const sink = sendHead(response, answer.status, {
    'cache-control': 'no-cache',
    ...EVERY_ANSWER,
    ...answer.headers,
    'x-request-id': requestId,
    ...(source === undefined ? {} : { 'cache-status': formatCacheStatus(source) }),
  });
  const digest = answer.headers['docker-content-digest'];
  const contentDigest = typeof digest === 'string' ? digest : undefined;
  return { sink, status: answer.status, source, headAt: performance.now(), contentDigest };
}

function sourceOf({ source }: Answer): ByteSource | undefined {
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
      // A client of HTTP/2 has closed its stream, which does not say so at once.
      if (sink.writableEnded) throw Object.assign(new Error('the client has gone'), { code: 'EPIPE' });
      // With HTTP/2 the end is part of the last frame, then.
      const isLast = sent.bytes === lengthBytes;
      await written(sink, next.value, isLast, signal);
    }
  } finally {
    await stream.return();
  }
}

function lengthOf({ headers }: Answer): number | undefined {
  const length = headers['content-length'];
  return length === undefined ? undefined : Number(length);
}

/** Resolves when the chunk has been handed to the system: only then its buffer may be filled again. */
function written(sink: Writable, chunk: Uint8Array, isLast: boolean, signal: AbortSignal): Promise<void> {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  const settle = (error?: Error | null): void => (error ? reject(error) : resolve());
  if (isLast) sink.end(chunk, settle);
  else sink.write(chunk, settle);
  return waitFor(promise, signal);
}
