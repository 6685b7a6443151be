import type { Readable } from 'node:stream';

import { Agent, request } from 'undici';

import { BoundedMap } from '../../cache/bounded-map.ts';
import type { BlobResponse } from '../../core/sources/blob-source.ts';
import type { ByteRange } from '../../core/byte-range.ts';
import { SpandrelError } from '../../core/errors.ts';
import { steadyNow } from '../../core/steady-now.ts';
import { waitFor } from '../../core/wait-for.ts';
import { TimeLimit } from '../../core/work/time-limit.ts';
import type { Events } from '../../telemetry/events.ts';
import type { ReadObject } from '../objects/object-store.ts';
import { objectAgeMs, type S3Api } from './s3-api.ts';
import { explainS3Fault, S3Refusal } from './s3-fault.ts';
import type { StoreGate } from './store-gate.ts';

export interface ReadTimeouts {
  readonly connectMs: number;
  /** Until the head of a response: then the caller asks its next source. */
  readonly headMs: number;
  /** Longest pause in a body. */
  readonly stallMs: number;
}

export interface ObjectReadsDeps {
  readonly api: Pick<S3Api, 'presign'>;
  readonly gate: StoreGate;
  readonly timeouts?: ReadTimeouts | undefined;
  readonly events: Events;
}

const TIMEOUTS: ReadTimeouts = { connectMs: 2_000, headMs: 1_500, stallMs: 10_000 };
const MAX_CONNECTIONS = 64;
/** A signed URL is used again and again, until this long before its end. */
const SIGNED_SECONDS = 3600;
const MARGIN_MS = 10 * 60_000;
const MAX_URLS = 20_000;
const MAX_ERROR_BYTES = 16 * 1024;

interface SignedUrl {
  readonly url: URL;
  readonly expiresAtMs: number;
}

interface FoundObject {
  readonly body: Readable;
  readonly range: ByteRange;
  readonly totalBytes: number;
  readonly ageMs: number;
}

/** Reads objects from signed URLs. The signature does not cover `Range`: one URL serves all ranges. */
export class ObjectReads implements AsyncDisposable {
  readonly #deps: ObjectReadsDeps;
  readonly #timeouts: ReadTimeouts;
  readonly #agent: Agent;
  readonly #urls = new BoundedMap<SignedUrl>({ maxEntries: MAX_URLS });

  constructor(deps: ObjectReadsDeps) {
    this.#deps = deps;
    this.#timeouts = deps.timeouts ?? TIMEOUTS;
    const { connectMs, stallMs } = this.#timeouts;
    this.#agent = new Agent({
      connections: MAX_CONNECTIONS,
      connect: { timeout: connectMs },
      headersTimeout: 0,
      bodyTimeout: stallMs,
    });
  }

  /** A URL that is valid for ten minutes or more, if the credentials are. */
  async locate(name: string): Promise<URL> {
    const known = this.#urls.get(name);
    if (known !== undefined && steadyNow() < known.expiresAtMs - MARGIN_MS) return known.url;
    try {
      const signed = await this.#deps.api.presign(name, SIGNED_SECONDS);
      this.#urls.set(name, signed);
      return signed.url;
    } catch (error) {
      throw explainS3Fault(error).error;
    }
  }

  /** The credentials may come from a service that does not respond. */
  async #locateInTime(name: string, signal: AbortSignal): Promise<URL> {
    using limit = new TimeLimit(this.#timeouts.headMs);
    return await waitFor(this.locate(name), limit.with(signal));
  }

  forget(name: string): void {
    this.#urls.delete(name);
  }

  async fetch(
    name: string,
    range: ByteRange | undefined,
    signal: AbortSignal,
    sizeBytes?: number,
  ): Promise<BlobResponse | undefined> {
    const found = await this.#find(name, range, signal, sizeBytes);
    if (found === undefined) return undefined;
    const { body, range: sent, totalBytes } = found;
    return { range: sent, totalBytes, body: this.#exactly(body, sent, signal) };
  }

  async #find(
    name: string,
    range: ByteRange | undefined,
    signal: AbortSignal,
    sizeBytes?: number,
  ): Promise<FoundObject | undefined> {
    const { gate, events } = this.#deps;
    const found = await gate.run('get', signal, async () => {
      const response = await this.#request(name, range, signal);
      if (response === undefined || sizeBytes === undefined || response.totalBytes === sizeBytes)
        return response;
      response.body.destroy();
      throw protocolFault(`an object of ${response.totalBytes} instead of ${sizeBytes} bytes`);
    });
    events.durable.responded('get', found === undefined ? 'absent' : 'ok');
    return found;
  }

  async read(name: string, maxBytes: number, signal: AbortSignal): Promise<ReadObject | undefined> {
    const found = await this.#find(name, undefined, signal);
    if (found === undefined) return undefined;
    const chunks: Buffer[] = [];
    for await (const chunk of this.#exactly(found.body, found.range, signal)) {
      if (found.totalBytes > maxBytes) throw protocolFault(`more than ${maxBytes} bytes of a record`);
      chunks.push(chunk);
    }
    return { bytes: Buffer.concat(chunks), ageMs: found.ageMs };
  }

  /** @throws S3Refusal, the errors of undici and of the SDK, SpandrelError UPSTREAM_PROTOCOL */
  async #request(
    name: string,
    range: ByteRange | undefined,
    signal: AbortSignal,
  ): Promise<FoundObject | undefined> {
    const isSigned = this.#urls.get(name) !== undefined;
    const url = await this.#locateInTime(name, signal);
    using limit = new TimeLimit(this.#timeouts.headMs);
    // The limit ends with the head of the response; the signal goes on.
    const { statusCode, headers, body } = await this.#send(url, range, signal, limit);
    if (statusCode === 200 || statusCode === 206) {
      const sent = statusCode === 206 ? parseContentRange(headers['content-range']) : wholeOf(headers);
      const isWanted = statusCode === 200 || sent?.range.start === range?.start;
      if (sent !== undefined && isWanted && headers['content-encoding'] === undefined)
        return { body, ...sent, ageMs: objectAgeMs(dateOf(headers['last-modified'])) };
      body.destroy();
      throw protocolFault('a response that does not say which bytes it has');
    }
    const refusal = new S3Refusal(statusCode, await readError(body));
    if (statusCode === 404 && refusal.code !== 'NoSuchBucket') return undefined;
    if (statusCode === 403) this.forget(name);
    // The credentials that signed the URL may have been replaced.
    if (statusCode === 403 && isSigned) return this.#request(name, range, signal);
    if (statusCode === 416) throw protocolFault('an object ends before the requested range');
    throw refusal;
  }

  async #send(url: URL, range: ByteRange | undefined, signal: AbortSignal, limit: TimeLimit) {
    const headers: Record<string, string> = { 'accept-encoding': 'identity' };
    if (range !== undefined && range.end > range.start)
      headers['range'] = `bytes=${range.start}-${range.end - 1}`;
    const ending = new AbortController();
    const end = (): void => ending.abort(limit.isOver ? limit.signal.reason : signal.reason);
    limit.signal.addEventListener('abort', end);
    signal.addEventListener('abort', end);
    try {
      const options = { method: 'GET', headers, dispatcher: this.#agent, signal: ending.signal } as const;
      const response = await request(url, options);
      response.body.once('close', () => signal.removeEventListener('abort', end));
      response.body.on('error', () => undefined);
      return response;
    } catch (error) {
      signal.removeEventListener('abort', end);
      throw error;
    } finally {
      limit.signal.removeEventListener('abort', end);
    }
  }

  /** @throws SpandrelError UPSTREAM_* if the body is not what its head announced */
  async *#exactly(
    body: Readable,
    { start, end }: ByteRange,
    signal: AbortSignal,
  ): AsyncGenerator<Buffer, void, undefined> {
    const { gate, events } = this.#deps;
    let received = 0;
    try {
      for await (const chunk of body as AsyncIterable<Buffer>) {
        received += chunk.byteLength;
        if (received > end - start) throw protocolFault('a body that is longer than announced');
        events.durable.bytesRead(chunk.byteLength);
        yield chunk;
      }
      if (received < end - start) throw protocolFault('a body that is shorter than announced');
    } catch (error) {
      signal.throwIfAborted();
      throw gate.failed('get', error).error;
    } finally {
      body.destroy();
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }
}

type Headers = Readonly<Record<string, string | string[] | undefined>>;

function dateOf(header: string | string[] | undefined): Date | undefined {
  return typeof header === 'string' ? new Date(header) : undefined;
}

function wholeOf(headers: Headers): { range: ByteRange; totalBytes: number } | undefined {
  const length = headers['content-length'];
  if (typeof length !== 'string' || !/^\d{1,15}$/.test(length)) return undefined;
  return { range: { start: 0, end: Number(length) }, totalBytes: Number(length) };
}

function parseContentRange(
  header: string | string[] | undefined,
): { range: ByteRange; totalBytes: number } | undefined {
  if (typeof header !== 'string') return undefined;
  const [, first, last, total] = /^bytes (\d{1,15})-(\d{1,15})\/(\d{1,15})$/.exec(header) ?? [];
  if (first === undefined) return undefined;
  const range = { start: Number(first), end: Number(last) + 1 };
  return range.start < range.end && range.end <= Number(total)
    ? { range, totalBytes: Number(total) }
    : undefined;
}

/** The beginning of the body of an error. */
async function readError(body: Readable): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  try {
    for await (const chunk of body as AsyncIterable<Buffer>) {
      chunks.push(chunk);
      bytes += chunk.byteLength;
      if (bytes > MAX_ERROR_BYTES) break;
    }
  } catch {
    // The status says enough.
  }
  body.destroy();
  return Buffer.concat(chunks).toString('utf8');
}

function protocolFault(words: string): SpandrelError {
  return new SpandrelError('UPSTREAM_PROTOCOL', `object store: ${words}`);
}
