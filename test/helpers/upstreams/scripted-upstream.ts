import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { text as readText } from 'node:stream/consumers';

export interface SeenRequest {
  readonly method: string;
  /** Path and query. */
  readonly url: string;
  readonly headers: IncomingMessage['headers'];
  /** Of a POST; empty otherwise. */
  readonly body: string;
}

/** Answers one request; throwing breaks the connection. */
export type Script = (request: SeenRequest, response: ServerResponse) => void;

/** An HTTP server on a free port that answers as a test says, and remembers what it was asked. */
export class ScriptedUpstream implements AsyncDisposable {
  readonly requests: SeenRequest[] = [];
  readonly url: string;
  readonly #close: () => Promise<void>;

  private constructor(url: string, close: () => Promise<void>) {
    this.url = url;
    this.#close = close;
  }

  /** @param hostname name that the URL has; it must lead to this machine */
  static async start(script: Script, hostname = '127.0.0.1'): Promise<ScriptedUpstream> {
    const answer = (message: IncomingMessage, body: string, response: ServerResponse): void => {
      const { method = '', url = '', headers } = message;
      const seen = { method, url, headers, body };
      upstream.requests.push(seen);
      try {
        script(seen, response);
      } catch {
        response.destroy();
      }
    };
    const server = createServer((message, response) => {
      if (message.method !== 'POST') answer(message, '', response);
      else void readText(message).then((body) => answer(message, body, response));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const upstream = new ScriptedUpstream(`http://${hostname}:${port}`, async () => {
      server.closeAllConnections();
      server.close();
      if (server.listening) await once(server, 'close');
    });
    return upstream;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}
