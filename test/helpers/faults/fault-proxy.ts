import { once } from 'node:events';
import { createServer, type IncomingMessage, request, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What happens to a request; `pass` nothing. */
export type Fault =
  | { readonly kind: 'pass' | 'stall' | 'reset' | 'garbage' }
  | { readonly kind: 'status'; readonly status: number; readonly code?: string }
  /** The response stalls or is cut after some bytes of its body, or it says that it has only those. */
  | { readonly kind: 'hang' | 'cut' | 'short'; readonly afterBytes: number }
  /** The response has these headers instead of its own. */
  | { readonly kind: 'headers'; readonly headers: Readonly<Record<string, string>> }
  /** The request is carried out, and its response is lost. */
  | { readonly kind: 'lose' };

export const PASS: Fault = { kind: 'pass' };

/** An HTTP proxy in front of a server, which breaks requests as a test says. */
export class FaultProxy implements AsyncDisposable {
  readonly url: string;
  /** Method and target of every request. */
  readonly seen: string[] = [];
  /** Decides what happens to a request. */
  fault: (request: IncomingMessage) => Fault = () => PASS;
  readonly #close: () => Promise<void>;

  private constructor(url: string, close: () => Promise<void>) {
    this.url = url;
    this.#close = close;
  }

  static async start(target: string): Promise<FaultProxy> {
    const server = createServer((message, response) => {
      proxy.seen.push(`${message.method} ${message.url}`);
      answer(target, message, response, proxy.fault(message));
    });
    server.listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const proxy = new FaultProxy(`http://127.0.0.1:${port}`, async () => {
      server.closeAllConnections();
      server.close();
      if (server.listening) await once(server, 'close');
    });
    return proxy;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#close();
  }
}

function answer(target: string, message: IncomingMessage, response: ServerResponse, fault: Fault): void {
  response.on('error', () => undefined);
  message.on('error', () => undefined);
  if (fault.kind === 'stall') return void message.resume();
  if (fault.kind === 'reset') return void message.socket.resetAndDestroy();
  if (fault.kind === 'garbage') return void message.socket.end('what?\r\n\r\n');
  if (fault.kind === 'status') {
    message.resume();
    const body = fault.code === undefined ? '' : `<Error><Code>${fault.code}</Code></Error>`;
    return void response.writeHead(fault.status, { 'content-type': 'application/xml' }).end(body);
  }
  const { method, headers, url = '/' } = message;
  const forwarded = request(`${target}${url}`, { method, headers }, (reply) => {
    reply.on('error', () => response.destroy());
    if (fault.kind === 'lose') {
      reply.resume().once('end', () => message.socket.destroy());
      return;
    }
    if (!('afterBytes' in fault)) {
      const changed = 'headers' in fault ? fault.headers : {};
      response.writeHead(reply.statusCode ?? 500, { ...reply.headers, ...changed });
      reply.pipe(response);
      return;
    }
    void breakBody(reply, response, fault);
  });
  forwarded.on('error', () => response.destroy());
  message.pipe(forwarded);
}

async function breakBody(
  reply: IncomingMessage,
  response: ServerResponse,
  { kind, afterBytes }: Extract<Fault, { afterBytes: number }>,
): Promise<void> {
  const chunks: Buffer[] = [];
  for await (const chunk of reply as AsyncIterable<Buffer>) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const { 'content-length': _, ...headers } = reply.headers;
  const part = body.subarray(0, afterBytes);
  const announced = kind === 'short' ? part.byteLength : body.byteLength;
  response.writeHead(reply.statusCode ?? 500, { ...headers, 'content-length': announced });
  if (kind === 'hang') response.write(part);
  else if (kind === 'cut') response.write(part, () => response.destroy());
  else response.end(part);
}
