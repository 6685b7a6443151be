import { once } from 'node:events';
import { type AddressInfo, connect, createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

/** A way to a server over TCP, which a test can close as networks do: without a word to either end. */
export class Link implements AsyncDisposable {
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();
  #target: URL | undefined;
  #isClosed = false;
  /** How long bytes are on the way in each direction. */
  delayMs = 0;
  /** Connections since the start. */
  connections = 0;

  private constructor() {
    // Half-open connections would end when one side is quiet.
    this.#server = createServer({ pauseOnConnect: true, noDelay: true }, (client) => this.#accept(client));
  }

  static async start(): Promise<Link> {
    const link = new Link();
    link.#server.listen(0, '127.0.0.1');
    await once(link.#server, 'listening');
    return link;
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port;
  }

  get url(): string {
    return `http://127.0.0.1:${this.port}`;
  }

  /** Where the way leads. Connections before that wait. */
  lead(url: string): void {
    this.#target = new URL(url);
  }

  /** No byte gets through in either direction, over old connections and new ones, until {@link open}. */
  close(): void {
    this.#isClosed = true;
    for (const socket of this.#sockets) socket.pause();
  }

  open(): void {
    this.#isClosed = false;
    for (const socket of this.#sockets) socket.resume();
  }

  /** Connections so far are forgotten: their bytes get lost, without a word. New ones work. */
  forget(): void {
    for (const socket of this.#sockets) socket.removeAllListeners('data').resume();
  }

  /** All connections break. */
  cut(): void {
    for (const socket of this.#sockets) socket.resetAndDestroy();
  }

  #accept(client: Socket): void {
    this.connections++;
    const { hostname = '', port = '' } = this.#target ?? {};
    const server = connect({ host: hostname, port: Number(port), noDelay: true });
    this.#join(client, server);
    this.#join(server, client);
    if (!this.#isClosed) client.resume();
  }

  #join(from: Socket, to: Socket): void {
    this.#sockets.add(from);
    /** Settles when all before has arrived, once there was a delay. */
    let way: Promise<unknown> | undefined;
    if (this.#isClosed) from.pause();
    from.on('data', (bytes) => {
      if (this.delayMs > 0) way = Promise.all([way, sleep(this.delayMs)]);
      if (way !== undefined) return void way.then(() => to.write(bytes));
      if (to.write(bytes)) return;
      from.pause();
      to.once('drain', () => this.#isClosed || from.resume());
    });
    from.on('end', () => void Promise.resolve(way).then(() => to.end()));
    from.on('error', () => to.destroy());
    from.on('close', () => {
      this.#sockets.delete(from);
      if (!this.#isClosed) to.destroy();
    });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
    if (this.#server.listening) await once(this.#server, 'close');
  }
}
