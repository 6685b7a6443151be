import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo, Socket } from 'node:net';

import type { Digest } from '../../src/core/digest.ts';
import { SpandrelError } from '../../src/core/errors.ts';
import { waitFor } from '../../src/core/wait-for.ts';
import { type Clock, systemClock } from './clock.ts';
import type { DemoImage } from '../../src/demo/demo-image.ts';
import { type FaultAction, Faults } from './faults.ts';
import { RegistryAccess, type RegistryAuth } from './registry-access.ts';
import { errorAnswer, type RegistryAnswer } from '../../src/demo/registry-answer.ts';
import { RegistryContent } from '../../src/demo/registry-content.ts';
import { answerRequest, type RouteRequest } from '../../src/demo/answer-request.ts';
import { type PushRules, RegistryPushes } from './registry-pushes.ts';
import { type LoggedRequest, RequestLog } from './request-log.ts';
import { sendAnswer } from './send-answer.ts';
import { SignedBlobs } from './signed-blobs.ts';
import { TokenBucket } from './token-bucket.ts';

/** Longer than the pause of any client that keeps its connections. */
const KEEP_ALIVE_MS = 120_000;
const DEFAULT_URL_SECONDS = 3600;

/** All of it is optional and can be written as JSON, the clock excepted. */
export interface ScriptedRegistryOptions {
  /** 0, the default, takes a free one. */
  readonly port?: number;
  /** `127.0.0.1` when not given. */
  readonly host?: string;
  readonly auth?: RegistryAuth;
  /** Time before every answer. */
  readonly latencyMs?: number;
  /** Most that the bodies on one connection take; no limit when not given. */
  readonly bytesPerSecond?: number;
  /** Most that the bodies on all connections together take. */
  readonly totalBytesPerSecond?: number;
  /** False: Range is ignored. */
  readonly ranges?: boolean;
  /** False: no Referrers API. */
  readonly referrers?: boolean;
  /**
   * GET of a blob redirects to a second listener, by URLs that are good for so long (an hour when not given).
   */
  readonly redirectBlobs?: boolean | { readonly urlSeconds: number };
  /** Takes what is pushed. */
  readonly pushes?: PushRules;
  /** Requests that the log keeps. */
  readonly maxLoggedRequests?: number;
  readonly clock?: Clock;
}

type Listener = LoggedRequest['listener'];

/**
 * A registry in this process, spoken to over HTTP: an upstream that serves what was put in, as slowly and as
 * badly as it is told to, and remembers what it was asked.
 */
export class ScriptedRegistry implements AsyncDisposable {
  readonly faults = new Faults();
  readonly requests: RequestLog;
  readonly content = new RegistryContent();
  readonly #options: ScriptedRegistryOptions;
  readonly #clock: Clock;
  readonly #access: RegistryAccess;
  readonly #signedBlobs: SignedBlobs | undefined;
  readonly #pushes: RegistryPushes | undefined;
  readonly #totalThrottle: TokenBucket | undefined;
  readonly #connections = new WeakMap<Socket, { id: number; throttles: TokenBucket[] }>();
  readonly #servers = new Map<Listener, { server: Server; host: string }>();
  #connectionCount = 0;

  private constructor(options: ScriptedRegistryOptions) {
    this.#options = options;
    this.#clock = options.clock ?? systemClock();
    this.requests = new RequestLog(this.#clock, options.maxLoggedRequests);
    this.#access = new RegistryAccess(options.auth ?? { kind: 'none' }, this.#clock);
    const { redirectBlobs = false, totalBytesPerSecond, pushes } = options;
    if (pushes !== undefined)
      this.#pushes = new RegistryPushes(this.content, { referrers: options.referrers, ...pushes });
    const { urlSeconds } =
      typeof redirectBlobs === 'object' ? redirectBlobs : { urlSeconds: DEFAULT_URL_SECONDS };
    if (redirectBlobs !== false)
      this.#signedBlobs = new SignedBlobs({ urlSeconds, clock: this.#clock, content: this.content });
    if (totalBytesPerSecond !== undefined)
      this.#totalThrottle = new TokenBucket(totalBytesPerSecond, this.#clock);
  }

  static async start(options: ScriptedRegistryOptions = {}): Promise<ScriptedRegistry> {
    const registry = new ScriptedRegistry(options);
    await using starting = new AsyncDisposableStack();
    starting.use(registry);
    await registry.#listen('registry', options.port ?? 0);
    if (registry.#signedBlobs !== undefined) await registry.#listen('blobs', 0);
    starting.move();
    return registry;
  }

  /** `http://host:port` */
  get url(): string {
    return `http://${this.host}`;
  }

  /** `host:port` */
  get host(): string {
    return this.#hostOf('registry');
  }

  /** Connections that have been opened, on both listeners. */
  get connectionCount(): number {
    return this.#connectionCount;
  }

  /** As {@link RegistryContent.addBlob}. */
  async addBlob(repository: string, bytes: Uint8Array<ArrayBuffer>, digest?: Digest): Promise<Digest> {
    return await this.content.addBlob(repository, bytes, digest);
  }

  /** As {@link RegistryContent.addManifest}. */
  addManifest(repository: string, reference: string, bytes: Uint8Array, mediaType: string): Digest {
    return this.content.addManifest(repository, reference, bytes, mediaType);
  }

  /** As {@link RegistryContent.addImage}. */
  async addImage(repository: string, image: DemoImage): Promise<void> {
    await this.content.addImage(repository, image);
  }

  /** All Bearer tokens so far stop working. */
  revokeTokens(): void {
    this.#access.revokeTokens();
  }

  /** Cuts all connections; what is being answered ends as `cut`. */
  async [Symbol.asyncDispose](): Promise<void> {
    for (const { server } of this.#servers.values()) {
      const { promise, resolve } = Promise.withResolvers<void>();
      if (!server.listening) continue;
      server.close(() => resolve());
      server.closeAllConnections();
      await promise;
    }
  }

  async #listen(listener: Listener, port: number): Promise<void> {
    const server = createServer((request, response) => void this.#handle(listener, request, response));
    server.keepAliveTimeout = KEEP_ALIVE_MS;
    server.on('connection', (socket: Socket) => {
      const rate = this.#options.bytesPerSecond;
      const own = rate === undefined ? [] : [new TokenBucket(rate, this.#clock)];
      const shared = this.#totalThrottle === undefined ? [] : [this.#totalThrottle];
      this.#connections.set(socket, { id: ++this.#connectionCount, throttles: [...own, ...shared] });
    });
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once('error', reject);
    server.listen(port, this.#options.host ?? '127.0.0.1', resolve);
    await promise;
    server.off('error', reject);
    const { address, family, port: actualPort } = server.address() as AddressInfo;
    const host = family === 'IPv6' ? `[${address}]` : address;
    this.#servers.set(listener, { server, host: `${host}:${actualPort}` });
  }

  #hostOf(listener: Listener): string {
    return this.#servers.get(listener)?.host ?? '';
  }

  async #handle(listener: Listener, request: IncomingMessage, response: ServerResponse): Promise<void> {
    const { id: connectionId, throttles } = this.#connections.get(request.socket) ?? { id: 0, throttles: [] };
    const { method = '', url = '', headers } = request;
    const [path = '', query = ''] = url.split('?', 2);
    const entry = this.requests.begin({ listener, connectionId, method, path, query, headers });
    const left = new AbortController();
    response.once('close', () => left.abort());
    const { signal } = left;
    let isComplete = false;
    try {
      const fault = this.faults.take(entry);
      const { latencyMs = 0 } = this.#options;
      if (latencyMs > 0) await this.#clock.sleep(latencyMs, signal);
      if (fault?.kind === 'hold') await waitFor(fault.until, signal);
      const isRead = method === 'GET' || method === 'HEAD';
      const body = isRead ? Buffer.alloc(0) : await readBody(request);
      if (fault?.kind === 'cut') {
        this.#pushes?.keep({ method, path }, body.subarray(0, fault.keptBytes));
        throw new Error('cut by a fault');
      }
      const answer = this.#answer(
        listener,
        { method, path, query: new URLSearchParams(query), range: headers.range },
        headers,
        body,
        fault,
      );
      if (fault?.kind !== 'reset' || fault.afterBytes !== undefined)
        this.requests.update(entry, { status: answer.status });
      const onSent = (bytes: number): void => this.requests.sent(entry, bytes);
      isComplete = await sendAnswer(response, answer, { method, fault, throttles, onSent, signal });
    } catch (error) {
      // Whatever fails after the client has left fails because of that.
      if (!signal.aborted && !response.destroyed) this.requests.update(entry, { failure: String(error) });
      response.destroy();
    } finally {
      this.requests.end(entry, isComplete ? 'complete' : 'cut');
    }
  }

  #answer(
    listener: Listener,
    request: RouteRequest,
    headers: IncomingMessage['headers'],
    body: Buffer,
    fault: FaultAction | undefined,
  ): RegistryAnswer {
    if (fault?.kind === 'status') return faultAnswer(fault);
    const { authorization, host = this.host } = headers;
    if (listener === 'blobs') return this.#signedBlobs?.answer(request, authorization) as RegistryAnswer;
    const { ranges = true, referrers = true } = this.#options;
    const signed = this.#signedBlobs;
    const redirect =
      signed &&
      ((repository: string, digest: Digest) =>
        `http://${this.#hostOf('blobs')}${signed.sign(repository, digest)}`);
    const refused = this.#access.check(request, authorization, `http://${host}`);
    const pushed = refused === undefined ? this.#pushes?.answer(request, headers, body) : undefined;
    return refused ?? pushed ?? answerRequest(this.content, { ranges, referrers, redirect }, request);
  }
}

async function readBody(request: IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of request as AsyncIterable<Buffer>) chunks.push(chunk);
  return Buffer.concat(chunks);
}

function faultAnswer({ status, headers = {}, body }: FaultAction & { kind: 'status' }): RegistryAnswer {
  const usual = errorAnswer(new SpandrelError('INTERNAL', `made to answer ${status}`), headers);
  return { ...usual, status, ...(body === undefined ? {} : { headers, body: Buffer.from(body) }) };
}
