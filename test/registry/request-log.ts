import type { IncomingHttpHeaders } from 'node:http';

import { waitFor } from '../../src/core/wait-for.ts';
import type { Clock } from './clock.ts';

const KEPT_HEADERS = [
  'accept',
  'accept-encoding',
  'connection',
  'host',
  'if-range',
  'range',
  'user-agent',
] as const;
const DEFAULT_MAX_ENTRIES = 10_000;

/** One request. The registry keeps it up to date until `endedAtMs` is set. */
export interface LoggedRequest {
  readonly id: number;
  /** Which listener it came to: the registry's own, or the one that blobs are redirected to. */
  readonly listener: 'registry' | 'blobs';
  /** Same number, same connection; counted per listener. */
  readonly connectionId: number;
  readonly method: string;
  /** Without the query. */
  readonly path: string;
  readonly query: string;
  /** The Range header. */
  readonly range: string | undefined;
  /** Some of the headers; of `authorization` the scheme only. */
  readonly headers: Readonly<Record<string, string>>;
  readonly startedAtMs: number;
  /** The answer's status, once that is decided. */
  readonly status?: number;
  /** Bytes of the answer's body that the kernel has taken. */
  readonly bytesSent: number;
  readonly endedAtMs?: number;
  /** `complete`: all that was meant to be sent was sent. `cut`: the client left, or a fault ended it. */
  readonly outcome?: 'complete' | 'cut';
  /** A defect in the registry, or in a test's own `match` function. */
  readonly failure?: string;
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] };

interface Waiter {
  readonly predicate: (request: LoggedRequest) => boolean;
  readonly resolve: (request: LoggedRequest) => void;
}

/** What the log is told of a new request. */
export interface RequestStart extends Pick<
  LoggedRequest,
  'listener' | 'connectionId' | 'method' | 'path' | 'query'
> {
  readonly headers: IncomingHttpHeaders;
}

/**
 * What came in and what went out; the totals count everything since the last {@link RequestLog.clear}, the
 * entries are the newest.
 */
export class RequestLog implements Iterable<LoggedRequest> {
  readonly #clock: Clock;
  readonly #maxEntries: number;
  readonly #waiters = new Set<Waiter>();
  #entries: Mutable<LoggedRequest>[] = [];
  #lastId = 0;
  #requestCount = 0;
  #bytesSent = 0;
  #inFlight = 0;
  #peakInFlight = 0;

  constructor(clock: Clock, maxEntries = DEFAULT_MAX_ENTRIES) {
    this.#clock = clock;
    this.#maxEntries = maxEntries;
  }

  /** Oldest first; live objects. */
  get entries(): readonly LoggedRequest[] {
    return this.#entries;
  }

  get requestCount(): number {
    return this.#requestCount;
  }

  /** Body bytes of all answers, of redirected ones too. */
  get bytesSent(): number {
    return this.#bytesSent;
  }

  /** Requests that have not been answered to the end. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** Most of them at once. */
  get peakInFlight(): number {
    return this.#peakInFlight;
  }

  [Symbol.iterator](): Iterator<LoggedRequest> {
    return this.#entries[Symbol.iterator]();
  }

  /** Forget the entries, set the totals to 0 and the peak to what is in flight. */
  clear(): void {
    this.#entries = [];
    this.#requestCount = 0;
    this.#bytesSent = 0;
    this.#peakInFlight = this.#inFlight;
  }

  /**
   * The first request, of those in the log and those to come, for which `predicate` holds. It is asked again
   * whenever a request begins, gets its status, has sent something or ends.
   */
  async waitFor(
    predicate: (request: LoggedRequest) => boolean,
    signal?: AbortSignal,
  ): Promise<LoggedRequest> {
    const found = this.#entries.find(predicate);
    if (found !== undefined) return found;
    const { promise, resolve } = Promise.withResolvers<LoggedRequest>();
    const waiter = { predicate, resolve };
    this.#waiters.add(waiter);
    try {
      return await waitFor(promise, signal);
    } finally {
      this.#waiters.delete(waiter);
    }
  }

  /** For the registry. */
  begin({ headers, ...request }: RequestStart): LoggedRequest {
    const entry: LoggedRequest = {
      ...request,
      id: ++this.#lastId,
      range: headers.range,
      headers: keepHeaders(headers),
      startedAtMs: this.#clock.now(),
      bytesSent: 0,
    };
    this.#entries.push(entry);
    if (this.#entries.length > this.#maxEntries) this.#entries.shift();
    this.#requestCount++;
    this.#peakInFlight = Math.max(this.#peakInFlight, ++this.#inFlight);
    this.#notify(entry);
    return entry;
  }

  /** For the registry: `bytes` more have been sent. */
  sent(entry: LoggedRequest, bytes: number): void {
    this.#bytesSent += bytes;
    this.update(entry, { bytesSent: entry.bytesSent + bytes });
  }

  /** For the registry. */
  update(entry: LoggedRequest, change: Partial<LoggedRequest>): void {
    Object.assign(entry, change);
    this.#notify(entry);
  }

  /** For the registry: nothing more will be sent. */
  end(entry: LoggedRequest, outcome: 'complete' | 'cut'): void {
    this.#inFlight--;
    this.update(entry, { outcome, endedAtMs: this.#clock.now() });
  }

  #notify(entry: LoggedRequest): void {
    for (const { predicate, resolve } of this.#waiters) if (predicate(entry)) resolve(entry);
  }
}

function keepHeaders(headers: IncomingHttpHeaders): Record<string, string> {
  const kept: Record<string, string> = {};
  for (const name of KEPT_HEADERS) {
    const value = headers[name];
    if (typeof value === 'string') kept[name] = value;
  }
  if (headers.authorization !== undefined)
    kept['authorization'] = headers.authorization.split(' ', 1)[0] ?? '';
  return kept;
}
