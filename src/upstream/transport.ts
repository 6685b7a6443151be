import type { IncomingHttpHeaders } from 'node:http';
import { getCACertificates } from 'node:tls';

import { Agent, request as undiciRequest } from 'undici';

import type { Metrics, UpstreamRequestKind } from '../telemetry/metrics.ts';
import { guardedLookup } from './address-guard.ts';
import { ResponseBody } from './response-body.ts';
import { backoffMs, parseRetryAfterMs, type Pause, realPause } from './retry-delay.ts';
import { explainFault } from './transport-fault.ts';

/** The `upstream` section of the configuration. */
export interface UpstreamTiming {
  readonly connectTimeoutMs: number;
  readonly headersTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly retries: number;
}

export interface TransportOptions {
  /** Name of the upstream, for metrics and messages. */
  readonly upstream: string;
  /** Host name of the upstream itself, which alone may lead to a link-local address. */
  readonly hostname: string;
  /** PEM text of an authority that is trusted besides the usual ones. */
  readonly ca?: string | undefined;
  readonly timing: UpstreamTiming;
  readonly metrics: Metrics;
  readonly pause?: Pause | undefined;
}

export interface TransportRequest {
  readonly kind: UpstreamRequestKind;
  readonly method: 'GET' | 'HEAD';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly signal: AbortSignal | undefined;
}

export interface TransportResponse {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: ResponseBody;
}

/** Connections of one upstream and host; more requests wait for one. Bounds the memory of bodies in flight. */
const MAX_CONNECTIONS = 128;
const KEEP_ALIVE_MS = 30_000;
/** Who is told to wait longer gives up at once: asking earlier would be rude, waiting longer is nothing for a client that waits too. */
const LONGEST_RETRY_AFTER_MS = 30_000;

/** HTTP to one upstream and to the hosts it redirects to. No redirects, no decompression; the one place that retries. */
export class Transport implements AsyncDisposable {
  readonly #agent: Agent;
  readonly #options: TransportOptions;
  readonly #pause: Pause;

  constructor(options: TransportOptions) {
    const { ca, hostname, timing } = options;
    this.#options = options;
    this.#pause = options.pause ?? realPause;
    this.#agent = new Agent({
      connect: {
        timeout: timing.connectTimeoutMs,
        lookup: guardedLookup(hostname),
        // A private registry may keep its blobs in a public bucket, so the usual authorities stay.
        ...(ca === undefined ? {} : { ca: [...getCACertificates('default'), ca] }),
      },
      headersTimeout: timing.headersTimeoutMs,
      bodyTimeout: timing.stallTimeoutMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connections: MAX_CONNECTIONS,
      // Ranges of a blob are asked for in parallel because several connections are faster than one; HTTP/2 would make them one.
      allowH2: false,
    });
  }

  /**
   * The answer, whatever its status, once its head is there. A connection that breaks before that, 408, 429 and 5xx other than
   * 501 are tried again, with growing pauses or those that Retry-After wants.
   * @throws SpandrelError UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, UPSTREAM_PROTOCOL, SHUTTING_DOWN; the reason of the signal
   */
  async request(request: TransportRequest): Promise<TransportResponse> {
    for (let attempt = 0; ; attempt++) {
      const isLast = attempt >= this.#options.timing.retries;
      const delayMs = backoffMs(attempt);
      try {
        const response = await this.#attempt(request);
        if (isLast || !isWorthRetry(response.status)) return response;
        const wantedMs = parseRetryAfterMs(response.headers['retry-after'], Date.now()) ?? 0;
        if (wantedMs > LONGEST_RETRY_AFTER_MS) return response;
        await response.body.discard();
        await this.#pause(Math.max(delayMs, wantedMs), request.signal);
      } catch (error) {
        request.signal?.throwIfAborted();
        const fault = explainFault(this.#options.upstream, error);
        if (isLast || !fault.retryable) throw fault.error;
        await this.#pause(delayMs, request.signal);
      }
    }
  }

  async #attempt({ kind, method, url, headers, signal }: TransportRequest): Promise<TransportResponse> {
    const { metrics, upstream } = this.#options;
    try {
      const {
        statusCode,
        headers: answered,
        body,
      } = await undiciRequest(url, {
        dispatcher: this.#agent,
        method,
        headers,
        ...(signal === undefined ? {} : { signal }),
      });
      metrics.upstreamRequests.inc({ upstream, kind, outcome: outcomeOf(statusCode) });
      const onBytes = (count: number): void => metrics.upstreamBytes.inc({ upstream }, count);
      return {
        status: statusCode,
        headers: answered,
        body: new ResponseBody(body, { upstream, signal, onBytes }),
      };
    } catch (error) {
      const outcome =
        signal?.aborted === true ? 'aborted' : OUTCOMES[explainFault(upstream, error).error.code];
      metrics.upstreamRequests.inc({ upstream, kind, outcome: outcome ?? 'unreachable' });
      throw error;
    }
  }

  /** Breaks every connection. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#agent.destroy();
  }
}

const OUTCOMES: Readonly<Record<string, string>> = {
  UPSTREAM_TIMEOUT: 'timeout',
  UPSTREAM_PROTOCOL: 'protocol',
};

function isWorthRetry(status: number): boolean {
  return status === 408 || status === 429 || (status >= 500 && status !== 501);
}

/** A closed set, for the metric. */
function outcomeOf(status: number): string {
  if (status < 300) return 'ok';
  if (status < 400) return 'redirect';
  if (status === 401 || status === 403) return 'refused';
  if (status === 404) return 'not_found';
  if (status === 429) return 'throttled';
  return status < 500 ? 'client_error' : 'server_error';
}
