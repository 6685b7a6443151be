import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

import type { DemoImage } from './demo-image.ts';
import { RegistryContent } from './registry-content.ts';
import { answerRequest } from './answer-request.ts';

const LOOPBACK = '127.0.0.1';

/** A registry with generated images on a free loopback port: the upstream of the embedded demo. */
export class DemoServer implements AsyncDisposable {
  readonly #content = new RegistryContent();
  readonly #server: Server;
  #bytesSent = 0;

  private constructor() {
    this.#server = createServer((request, response) => this.#answer(request, response));
  }

  static async start(): Promise<DemoServer> {
    const demo = new DemoServer();
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    demo.#server.once('error', reject);
    demo.#server.listen(0, LOOPBACK, resolve);
    await promise;
    demo.#server.off('error', reject);
    return demo;
  }

  /** `http://host:port` */
  get url(): string {
    return `http://${this.host}`;
  }

  /** `host:port` */
  get host(): string {
    return `${LOOPBACK}:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Total bytes of all bodies sent. */
  get bytesSent(): number {
    return this.#bytesSent;
  }

  /** Adds an image without copying its bytes. */
  addImage(repository: string, image: DemoImage): Promise<void> {
    return this.#content.addImage(repository, image);
  }

  #answer({ method = '', url = '', headers }: IncomingMessage, response: ServerResponse): void {
    const [path = '', query = ''] = url.split('?', 2);
    const request = { method, path, query: new URLSearchParams(query), range: headers.range };
    const answer = answerRequest(this.#content, { ranges: true, referrers: true }, request);
    response.writeHead(answer.status, { ...answer.headers, 'content-length': answer.body.length });
    if (method === 'HEAD') {
      response.end();
    } else {
      this.#bytesSent += answer.body.length;
      response.end(answer.body);
    }
  }

  /** Closes all connections. */
  async [Symbol.asyncDispose](): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    this.#server.closeAllConnections();
    await closed.promise;
  }
}
