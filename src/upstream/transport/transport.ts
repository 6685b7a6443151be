import type { IncomingHttpHeaders } from 'node:http';

import { Agent, type Dispatcher } from 'undici';

import type { RequestRates } from '../../config/request-rates.ts';
import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { waitFor } from '../../core/wait-for.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { UpstreamRequestKind } from '../../telemetry/metrics.ts';
import { NO_TRACER, type Tracer } from '../../telemetry/tracer.ts';
import { AddressGuard, type AddressRules } from '../address-guard.ts';
import type { CircuitOptions } from '../../core/work/circuit-breaker.ts';
import { Circuits } from './circuits.ts';
import { createConnector, createProxyConnector } from './create-connector.ts';
import { parseContentCodings } from './content-coding.ts';
import { HostHolds } from './host-holds.ts';
import type { ProxyChoice } from './proxy-choice.ts';
import { explainRefusal, proxyHeaders } from './open-tunnel.ts';
import { RequestPace } from './request-pace.ts';
import { ResponseBody } from './response-body.ts';
import { backoffMs, parseHttpDateMs, parseRetryAfterMs, type Pause, realPause } from './backoff-ms.ts';
import type { TlsFiles } from './tls-files.ts';
import { explainFault } from './transport-fault.ts';

/** The `upstream` section of the configuration. */
export interface UpstreamTiming {
  readonly connectTimeoutMs: number;
  readonly headersTimeoutMs: number;
  readonly stallTimeoutMs: number;
  readonly retries: number;
  readonly circuit: CircuitOptions;
}

export interface TransportOptions {
  /** Name of the upstream, for metrics and messages. */
  readonly upstream: string;
  /** URL of the upstream itself. */
  readonly base: URL;
  readonly addresses?: AddressRules | undefined;
  readonly tls: TlsFiles;
  readonly chooseProxy: ProxyChoice;
  readonly rates: RequestRates;
  readonly timing: UpstreamTiming;
  readonly events: Events;
  readonly tracer?: Tracer | undefined;
  readonly logger: Logger;
  readonly pause?: Pause | undefined;
  /** As {@link RequestPaceOptions.sharers}. */
  readonly sharers?: (() => number) | undefined;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
}

export interface TransportRequest {
  readonly kind: UpstreamRequestKind;
  readonly method: 'GET' | 'HEAD' | 'POST' | 'PUT' | 'PATCH';
  readonly url: URL;
  readonly headers: Readonly<Record<string, string>>;
  readonly body?: string | Uint8Array | undefined;
  /** False: one attempt, for requests that may have been carried out although their connection broke. */
  readonly isRetried?: boolean | undefined;
  /** As {@link HeldRequest.party}. */
  readonly party?: string | undefined;
  readonly signal: AbortSignal | undefined;
}

export interface TransportResponse {
  readonly status: number;
  /** `Retry-After` in seconds, bounded, if the host sent it. */
  readonly retryAfterSeconds?: number | undefined;
  readonly headers: IncomingHttpHeaders;
  readonly body: ResponseBody;
  /**
   * The response comes from a private network or this machine, and not from the upstream itself. An attacker
   * may have led the proxy there to read what only it can reach, so no client gets any of it before its
   * digest is verified.
   */
  readonly isUnproven?: boolean;
}

/** Connections for each upstream and host; more requests wait. Bounds the memory of bodies in flight. */
const MAX_CONNECTIONS = 128;
/** Gateways add policies and cookies; Node's own limit is a quarter of this. */
const MAX_HEAD_BYTES = 64 * 1024;
const KEEP_ALIVE_MS = 30_000;

/**
 * HTTP to one upstream and to the hosts that it leads to. Retries, keeps to configured rates and to
 * Retry-After, and stops requests to hosts that do not respond. Does not follow redirects.
 */
export class Transport implements AsyncDisposable {
  readonly #agent: Agent;
  /** Agent for connections to outbound proxies. */
  readonly #proxyAgent: Agent;
  readonly #guard: AddressGuard;
  readonly #options: TransportOptions;
  readonly #pause: Pause;
  readonly #pace: RequestPace;
  readonly #circuits: Circuits;
  readonly #holds: HostHolds;
  readonly #closing = new AbortController();

  constructor(options: TransportOptions) {
    const { upstream, base, tls, timing, rates, events } = options;
    this.#options = options;
    events.limits.upstreamOpened(upstream);
    this.#pause = options.pause ?? realPause;
    this.#pace = new RequestPace({
      upstream,
      rates,
      longestWaitMs: timing.headersTimeoutMs,
      pause: this.#pause,
      sharers: options.sharers,
      events,
    });
    this.#circuits = new Circuits({ upstream, options: timing.circuit, events });
    this.#holds = new HostHolds({ upstream, pause: this.#pause, events, now: options.now });
    const { connectTimeoutMs } = timing;
    const shared = {
      maxHeaderSize: MAX_HEAD_BYTES,
      headersTimeout: timing.headersTimeoutMs,
      bodyTimeout: timing.stallTimeoutMs,
      keepAliveTimeout: KEEP_ALIVE_MS,
      connections: MAX_CONNECTIONS,
    };
    this.#guard = new AddressGuard(upstream, base.hostname, options.addresses);
    const { signal } = this.#closing;
    const connectToProxy = createProxyConnector({ tls, connectTimeoutMs, signal });
    this.#proxyAgent = new Agent({ ...shared, connect: connectToProxy });
    const tunnel = { upstream, dispatcher: this.#proxyAgent, timeoutMs: connectTimeoutMs };
    const connect = createConnector({
      base,
      tls,
      guard: this.#guard,
      chooseProxy: options.chooseProxy,
      tunnel,
      connectTimeoutMs,
      signal,
    });
    this.#agent = new Agent({ ...shared, connect });
  }

  /**
   * Resolves to the response, whatever its status, when its head has arrived. Retries with growing pauses if
   * the connection breaks before that, and after 408, 429 and 5xx other than 501. A host that sent
   * Retry-After gets no request before that time.
   * @throws SpandrelError UPSTREAM_UNREACHABLE, UPSTREAM_TIMEOUT, UPSTREAM_PROTOCOL, UPSTREAM_THROTTLED
   * beyond the configured rate or before the time of Retry-After, SHUTTING_DOWN; the reason of the signal
   */
  async request(request: TransportRequest): Promise<TransportResponse> {
    const attempt = this.#circuits.enter(request.url);
    const isSingle = attempt.isProbe || request.isRetried === false;
    try {
      const response = await this.#try(request, isSingle ? 0 : this.#options.timing.retries);
      const isFailed = isServerFault(response.status);
      attempt.end(isFailed ? 'failed' : 'answered', `it answered ${response.status}`);
      return await this.#judge(request.url, response);
    } catch (error) {
      if (isSpandrelError(error, 'UPSTREAM_UNREACHABLE', 'UPSTREAM_TIMEOUT'))
        attempt.end('failed', error.message);
      else attempt.end(isSpandrelError(error, 'UPSTREAM_PROTOCOL') ? 'answered' : 'left');
      throw error;
    }
  }

  async #judge(url: URL, response: TransportResponse): Promise<TransportResponse> {
    try {
      return { ...response, isUnproven: this.#isUnproven(url) };
    } catch (error) {
      await response.body.discard();
      throw error;
    }
  }

  #isUnproven(url: URL): boolean {
    const { base } = this.#options;
    const isOwn = url.hostname === base.hostname && portOf(url) === portOf(base);
    return !isOwn && this.#guard.isPrivate(url.hostname);
  }

  async #try(request: TransportRequest, retries: number): Promise<TransportResponse> {
    let waitsLeft = retries;
    for (let attempt = 0; ; attempt++) {
      const isLast = attempt >= retries;
      const delayMs = backoffMs(attempt);
      waitsLeft -= await this.#holds.admit(request, waitsLeft);
      if (request.kind === 'token' || request.url.origin === this.#options.base.origin)
        await this.#pace.admit(request.kind, request.signal);
      try {
        const response = await this.#attempt(request);
        if (!isWorthRetry(response.status)) return response;
        const { holdMs, isLong } = this.#hold(request, response);
        if (isLast || isLong) {
          const retryAfterSeconds = holdMs > 0 ? Math.ceil(holdMs / 1000) : undefined;
          return { ...response, retryAfterSeconds };
        }
        await response.body.discard();
        if (holdMs === 0) await this.#pause(delayMs, request.signal);
      } catch (error) {
        request.signal?.throwIfAborted();
        const fault = explainFault(this.#describe(request.url), error);
        if (isLast || !fault.retryable) throw fault.error;
        await this.#pause(delayMs, request.signal);
      }
    }
  }

  /**
   * Records the Retry-After of a response. A date counts from the date of the response, which is of the same
   * clock.
   */
  #hold(request: TransportRequest, { headers }: TransportResponse): ReturnType<HostHolds['hold']> {
    const sentMs = parseHttpDateMs(headers['date']) ?? Date.now();
    const wantedMs = parseRetryAfterMs(headers['retry-after'], sentMs) ?? 0;
    const hold = this.#holds.hold(request, wantedMs);
    if (hold.isLong) {
      const { upstream, logger } = this.#options;
      const fields = { upstream, host: request.url.host, seconds: Math.ceil(hold.holdMs / 1000) };
      logger.warn(fields, 'upstream wants no requests for a while (Retry-After)');
    }
    return hold;
  }

  async #attempt({
    kind,
    method,
    url,
    headers,
    body: sent,
    signal,
  }: TransportRequest): Promise<TransportResponse> {
    const { events, upstream, tracer = NO_TRACER } = this.#options;
    const held = events.hold('upstream_request');
    const startedAtMs = performance.now();
    const seconds = (): number => (performance.now() - startedAtMs) / 1000;
    // Queries contain signatures: they are not traced.
    const traceSpan = tracer.begin(`upstream ${kind}`, 'client');
    traceSpan.set({
      'http.request.method': method,
      'server.address': url.host,
      'spandrel.upstream': upstream,
    });
    try {
      const asked = this.#send(url, {
        method,
        headers,
        ...(sent === undefined ? {} : { body: sent }),
        ...(signal === undefined ? {} : { signal }),
      });
      // undici ignores the signal of a request that waits for a connection.
      const { statusCode, headers: answered, body } = await waitFor(asked, signal);
      const ended = { upstream, kind, outcome: outcomeOf(statusCode), seconds: seconds() };
      events.upstreamResponded(ended, statusCode, traceSpan);
      body.once('close', () => {
        traceSpan.end();
        held[Symbol.dispose]();
      });
      const codings = parseContentCodings(answered['content-encoding']);
      const onBytes = (count: number): void => events.upstreamBytesReceived(upstream, count);
      return {
        status: statusCode,
        headers: answered,
        body: new ResponseBody(body, { upstream, signal, codings, onBytes }),
      };
    } catch (error) {
      const { code } = explainFault(upstream, error).error;
      events.limits.failed(error);
      const outcome = signal?.aborted === true ? 'aborted' : (OUTCOMES[code] ?? 'unreachable');
      events.upstreamFailed({ upstream, kind, outcome, seconds: seconds() }, traceSpan);
      traceSpan.end();
      held[Symbol.dispose]();
      throw error;
    }
  }

  /**
   * Sends a request over a connection to the host, which may be a tunnel; http through a proxy goes to the
   * proxy itself (RFC 9112, section 3.2.2).
   */
  async #send(
    url: URL,
    request: Pick<Dispatcher.RequestOptions, 'method' | 'body' | 'signal'> & {
      readonly headers: Readonly<Record<string, string>>;
    },
  ): Promise<Dispatcher.ResponseData> {
    const path = `${url.pathname}${url.search}`;
    const proxy = url.protocol === 'http:' ? this.#options.chooseProxy(url) : undefined;
    if (proxy === undefined) return this.#agent.request({ ...request, origin: url.origin, path });
    this.#guard.checkHost(url.hostname);
    this.#guard.checkName(url.hostname);
    const headers = { ...request.headers, host: url.host, ...proxyHeaders(proxy) };
    const response = await this.#proxyAgent.request({
      ...request,
      headers,
      origin: proxy.origin,
      path: url.origin + path,
    });
    if (response.statusCode !== 407) return response;
    response.body.on('error', () => undefined).destroy();
    throw explainRefusal(this.#options.upstream, response.statusCode);
  }

  /** Name of the upstream in errors. */
  #describe(url: URL): string {
    const { upstream, chooseProxy } = this.#options;
    return chooseProxy(url) === undefined ? upstream : `${upstream} (through its outbound proxy)`;
  }

  /** Breaks all connections and rejects requests that wait for a hold. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#holds.close(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    const destroyed = [this.#agent.destroy(), this.#proxyAgent.destroy()];
    // The agents do not own connections that are still being opened.
    this.#closing.abort();
    await Promise.all(destroyed);
  }
}

const OUTCOMES: Readonly<Record<string, string>> = {
  RESOURCE_EXHAUSTED: 'exhausted',
  UPSTREAM_TIMEOUT: 'timeout',
  UPSTREAM_PROTOCOL: 'protocol',
};

function portOf({ port, protocol }: URL): string {
  return port === '' ? (protocol === 'https:' ? '443' : '80') : port;
}

function isWorthRetry(status: number): boolean {
  return status === 408 || status === 429 || isServerFault(status);
}

function isServerFault(status: number): boolean {
  return status >= 500 && status !== 501;
}

/** A closed set of labels. */
function outcomeOf(status: number): string {
  if (status < 300) return 'ok';
  if (status < 400) return 'redirect';
  if (status === 401 || status === 403) return 'refused';
  if (status === 404) return 'not_found';
  if (status === 429) return 'throttled';
  return status < 500 ? 'client_error' : 'server_error';
}
