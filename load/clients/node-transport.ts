import type { IncomingHttpHeaders } from 'node:http';
import { type ClientHttp2Session, connect } from 'node:http2';
import { Agent, request } from 'node:https';
import { buffer } from 'node:stream/consumers';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';

import type { NodeResponse, SnapshotterOptions } from '../../test/helpers/clients/snapshotter-client.ts';
import type { Wire } from './wire.ts';

type Send = NonNullable<SnapshotterOptions['send']>;

/**
 * Sends the requests of one node to the server at `origin` over its own connections, which are closed on
 * disposal.
 */
export function openNodeTransport(origin: string, wire: Wire): Disposable & { readonly send?: Send } {
  // Plain HTTP uses fetch.
  if (wire === 'http') return { [Symbol.dispose]: () => undefined };
  if (wire === 'tls') {
    const agent = new Agent({ keepAlive: true });
    return { send: (url, asked) => sendOverTls(agent, url, asked), [Symbol.dispose]: () => agent.destroy() };
  }
  const session = connect(origin);
  session.on('error', () => undefined);
  return {
    send: (url, asked) => sendOverHttp2(session, url, asked),
    [Symbol.dispose]: () => session.destroy(),
  };
}

function sendOverTls(agent: Agent, url: string, asked: Parameters<Send>[1]): Promise<NodeResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<NodeResponse>();
  const asking = request(url, { ...asked, agent }, (response) => {
    buffer(response)
      .then((body) => unpacked(response.statusCode ?? 0, response.headers, body))
      .then(resolve, reject);
  });
  asking.on('error', reject);
  asking.end();
  return promise;
}

function sendOverHttp2(
  session: ClientHttp2Session,
  url: string,
  { method, headers }: Parameters<Send>[1],
): Promise<NodeResponse> {
  const { promise, resolve, reject } = Promise.withResolvers<NodeResponse>();
  const { pathname, search } = new URL(url);
  const stream = session.request({ ':method': method, ':path': pathname + search, ...headers });
  stream.on('response', (answered) => {
    buffer(stream)
      .then((body) => unpacked(answered[':status'] ?? 0, answered, body))
      .then(resolve, reject);
  });
  stream.on('error', reject);
  stream.end();
  return promise;
}

/** In the form of fetch. */
async function unpacked(
  status: number,
  answered: IncomingHttpHeaders,
  packed: Buffer,
): Promise<NodeResponse> {
  const headers = new Headers();
  for (const [name, value] of Object.entries(answered))
    if (!name.startsWith(':') && value !== undefined) headers.set(name, String(value));
  const isPacked = headers.get('content-encoding') === 'gzip' && packed.length > 0;
  return { status, headers, body: isPacked ? await promisify(gunzip)(packed) : packed };
}
