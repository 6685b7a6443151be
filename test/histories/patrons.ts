import { Agent, type IncomingHttpHeaders, type IncomingMessage, request } from 'node:http';

/** How an answer came to its end: `cut` is every end but that of the whole body. */
export interface Answer {
  readonly status: number;
  readonly headers: IncomingHttpHeaders;
  readonly body: Buffer;
  readonly end: 'whole' | 'cut' | 'left';
}

/** There was no answer at all. */
export class NoAnswer extends Error {}

/** Nothing moves for so long: longer than the proxy waits for anything. */
const SILENCE_MS = 20_000;

/** The connections that clients keep to one proxy. */
export class Patrons {
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 64 });

  /**
   * @param leaveAfterBytes the client goes away when it has so many bytes of the body
   * @throws NoAnswer; Error if the proxy is silent
   */
  async ask(
    url: string,
    options: {
      method?: string;
      /** Of the client; `127.0.0.1` when not given. */
      address?: string | undefined;
      headers?: Record<string, string>;
      leaveAfterBytes?: number | undefined;
      body?: string;
    },
  ): Promise<Answer> {
    const { method = 'GET', headers = {}, address, leaveAfterBytes = Infinity, body } = options;
    const { promise, resolve, reject } = Promise.withResolvers<Answer>();
    const asking = request(url, { method, headers, localAddress: address, agent: this.#agent });
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

  destroy(): void {
    this.#agent.destroy();
  }
}
