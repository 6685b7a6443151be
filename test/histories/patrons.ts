import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';
import { type ClientHttp2Session, connect, constants } from 'node:http2';
import { Agent as TlsAgent, request as requestByTls } from 'node:https';
import { connect as connectByTls } from 'node:tls';

import type { SetUp } from './history.ts';

/** How a response ended; `cut` is any end except that of the whole body. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly end: 'whole' | 'cut' | 'left';
}

/** No response arrived. */
export class NoAnswer extends Error {}

/** Longer than the proxy waits for anything. */
const SILENCE_MS = 40_000;

export interface PatronsOptions {
  readonly wire: SetUp['wire'];
  /** The authority that clients trust. */
  readonly ca: Buffer | undefined;
  /** Credentials of requests without a header `authorization` of their own; an empty one sends none. */
  readonly authorization: string | undefined;
}

interface Asked {
  readonly method?: string;
  /** Address of the client; default `127.0.0.1`. */
  readonly address?: string | undefined;
  readonly headers?: Readonly<Record<string, string>>;
  readonly leaveAfterBytes?: number | undefined;
  readonly body?: string;
}

/** The clients' connections to one proxy. */
export class Patrons {
  readonly #options: PatronsOptions;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });
  readonly #tlsAgent: TlsAgent;
  readonly #sessions = new Map<string, ClientHttp2Session>();

  constructor(options: PatronsOptions) {
    this.#options = options;
    this.#tlsAgent = new TlsAgent({ keepAlive: true, maxSockets: 64, ca: options.ca });
  }

  /**
   * @param leaveAfterBytes the client aborts after this many bytes of the body
   * @throws NoAnswer; Error if the proxy is silent
   */
  async ask(url: string, asked: Asked): Promise<Answer> {
    const { authorization } = this.#options;
    const isRegistry = new URL(url).pathname.startsWith('/v2/');
    const own = authorization === undefined || !isRegistry ? {} : { authorization };
    const { authorization: shown = '', ...others } = { ...own, ...asked.headers };
    const headers = shown === '' ? others : { ...others, authorization: shown };
    const isByTls = url.startsWith('https:');
    if (isByTls && this.#options.wire === 'tls h2') return this.#askByHttp2(url, { ...asked, headers });
    return this.#askByHttp1(url, { ...asked, headers }, isByTls);
  }

  #askByHttp1(url: string, asked: Asked, isByTls: boolean): Promise<Answer> {
    const { method = 'GET', headers = {}, address, leaveAfterBytes = Infinity, body } = asked;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const options = { method, headers, localAddress: address };
    const asking = isByTls
      ? requestByTls(url, { ...options, agent: this.#tlsAgent })
      : request(url, { ...options, agent: this.#agent });
    asking.setTimeout(SILENCE_MS, () => {
      reject(new Error(`silence for ${SILENCE_MS} ms: ${method} ${url}`));
      asking.destroy();
    });
    asking.once('error', (error) => reject(new NoAnswer(`${method} ${url}: ${error.message}`)));
    asking.once('response', (response: IncomingMessage) => {
      const chunks: Buffer[] = [];
      let bytes = 0;
      const finish = (end: Answer['end']): void =>
        resolve({
          status: response.statusCode ?? 0,
          headers: response.headers,
          body: Buffer.concat(chunks),
          end,
        });
      if (leaveAfterBytes === 0) {
        finish('left');
        asking.destroy();
        return;
      }
      response.on('data', (chunk: Buffer) => {
        chunks.push(chunk);
        bytes += chunk.length;
        if (bytes <= leaveAfterBytes) return;
        finish('left');
        asking.destroy();
      });
      response.once('end', () => finish('whole'));
      response.once('error', () => finish('cut'));
      response.once('close', () => finish(response.complete ? 'whole' : 'cut'));
    });
    asking.end(body);
    return promise;
  }

  #askByHttp2(url: string, { method = 'GET', headers = {}, address, ...asked }: Asked): Promise<Answer> {
    const { origin, pathname, search } = new URL(url);
    const { leaveAfterBytes = Infinity, body } = asked;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const what = `${method} ${url}`;
    const session = this.#session(origin, address);
    const stream = session.request(
      { ':method': method, ':path': `${pathname}${search}`, ...headers },
      { endStream: body === undefined },
    );
    const leave = (): void => stream.close(constants.NGHTTP2_CANCEL);
    stream.setTimeout(SILENCE_MS, () => {
      reject(new Error(`silence for ${SILENCE_MS} ms: ${what}`));
      leave();
    });
    let answer: Pick<Answer, 'status' | 'headers'> | undefined;
    const chunks: Buffer[] = [];
    let bytes = 0;
    const finish = (end: Answer['end']): void => {
      if (answer === undefined) reject(new NoAnswer(`${what}: no answer`));
      else resolve({ ...answer, body: Buffer.concat(chunks), end });
    };
    stream.once('response', ({ ':status': status = 0, ...given }) => {
      answer = { status, headers: given };
      if (leaveAfterBytes > 0) return;
      finish('left');
      leave();
    });
    stream.on('data', (chunk: Buffer) => {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes <= leaveAfterBytes) return;
      finish('left');
      leave();
    });
    stream.once('end', () => finish(stream.rstCode === constants.NGHTTP2_NO_ERROR ? 'whole' : 'cut'));
    stream.on('error', (error) => {
      if (answer === undefined) reject(new NoAnswer(`${what}: ${error.message}`));
      else finish('cut');
    });
    stream.once('close', () => finish('cut'));
    if (body !== undefined) stream.end(body);
    return promise;
  }

  /** One for each client. */
  #session(origin: string, address: string | undefined): ClientHttp2Session {
    const key = `${origin} ${address}`;
    const known = this.#sessions.get(key);
    if (known !== undefined && !known.closed && !known.destroyed) return known;
    const { hostname: host, port } = new URL(origin);
    const local = address === undefined ? {} : { localAddress: address };
    const session = connect(origin, {
      createConnection: () =>
        connectByTls({ host, port: Number(port), ca: this.#options.ca, ALPNProtocols: ['h2'], ...local }),
    });
    this.#sessions.set(key, session);
    // Each stream reports its own end.
    session.on('error', () => undefined);
    session.once('close', () => {
      if (this.#sessions.get(key) === session) this.#sessions.delete(key);
    });
    return session;
  }

  destroy(): void {
    this.#agent.destroy();
    this.#tlsAgent.destroy();
    for (const session of this.#sessions.values()) session.destroy();
    this.#sessions.clear();
  }
}
