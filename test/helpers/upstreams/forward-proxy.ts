import { once } from 'node:events';
import { createServer, type IncomingMessage, request as httpRequest, type Server } from 'node:http';
import { createServer as createTlsServer } from 'node:https';
import { type AddressInfo, connect } from 'node:net';
import type { Duplex } from 'node:stream';

export interface ForwardProxyOptions {
  /** Ports of this machine behind `host:port`; anything else is answered 502. */
  readonly routes: Readonly<Record<string, number>>;
  /** `Proxy-Authorization` without which everything is answered 407. */
  readonly authorization?: string;
  /** Answers everything with this status. */
  readonly refusal?: number;
  /** Takes requests and never answers. */
  readonly hangs?: boolean;
  /** PEM texts: speaks TLS itself. */
  readonly tls?: { readonly cert: Buffer; readonly key: Buffer };
}

/**
 * A proxy as companies have it: CONNECT for https, absolute targets for http. Remembers what it was asked
 * for.
 */
export class ForwardProxy implements AsyncDisposable {
  /** `CONNECT host:port`, or method and absolute URL. */
  readonly seen: string[] = [];
  readonly seenHeaders: IncomingMessage['headers'][] = [];
  readonly url: string;
  readonly port: number;
  readonly #server: Server;
  readonly #sockets = new Set<Duplex>();

  private constructor(server: Server, scheme: string) {
    this.#server = server;
    this.port = (server.address() as AddressInfo).port;
    this.url = `${scheme}://127.0.0.1:${this.port}`;
  }

  static async start(options: ForwardProxyOptions): Promise<ForwardProxy> {
    const server = options.tls === undefined ? createServer() : createTlsServer(options.tls);
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const proxy = new ForwardProxy(server, options.tls === undefined ? 'http' : 'https');
    server.on('connection', (socket: Duplex) => proxy.#sockets.add(socket));
    server.on('connect', (message, socket: Duplex) => proxy.#tunnel(options, message, socket));
    server.on('request', (message: IncomingMessage, response) => {
      const { method = '', url = '', headers } = message;
      const status = proxy.#judge(options, `${method} ${url}`, message);
      if (options.hangs === true) return;
      const port = URL.canParse(url) ? options.routes[authorityOf(new URL(url))] : undefined;
      if (status !== undefined || port === undefined)
        return void response.writeHead(status ?? 502).end('a page of the proxy');
      const { pathname, search } = new URL(url);
      const passed = { ...headers };
      delete passed['proxy-authorization'];
      const target = { host: '127.0.0.1', port, method, path: pathname + search, headers: passed };
      const outgoing = httpRequest(target, (answer) => {
        response.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(response);
      });
      outgoing.on('error', () => response.destroy());
      message.pipe(outgoing);
    });
    return proxy;
  }

  #judge(options: ForwardProxyOptions, asked: string, { headers }: IncomingMessage): number | undefined {
    this.seen.push(asked);
    this.seenHeaders.push(headers);
    if (options.refusal !== undefined) return options.refusal;
    const isKnown =
      options.authorization === undefined || headers['proxy-authorization'] === options.authorization;
    return isKnown ? undefined : 407;
  }

  #tunnel(options: ForwardProxyOptions, message: IncomingMessage, socket: Duplex): void {
    const { url = '' } = message;
    const status = this.#judge(options, `CONNECT ${url}`, message);
    socket.on('error', () => undefined);
    if (options.hangs === true) return;
    const port = options.routes[url];
    if (status !== undefined || port === undefined)
      return void socket.end(`HTTP/1.1 ${status ?? 502} no\r\ncontent-length: 0\r\n\r\n`);
    const outgoing = connect(port, '127.0.0.1', () => {
      socket.write('HTTP/1.1 200 Connection established\r\n\r\n');
      socket.pipe(outgoing).pipe(socket);
    });
    outgoing.on('error', () => socket.destroy());
    outgoing.on('close', () => socket.destroy());
    socket.on('close', () => outgoing.destroy());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    if (this.#server.listening) await once(this.#server, 'close');
  }
}

function authorityOf({ protocol, hostname, port }: URL): string {
  return `${hostname}:${port || (protocol === 'https:' ? '443' : '80')}`;
}
