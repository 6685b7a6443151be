import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';
import { connect as connectTls } from 'node:tls';

import { cleanup } from '../cleanup.ts';

export interface Http2Answer {
  readonly status: number;
  readonly headers: Record<string, unknown>;
  readonly body: Buffer;
}

/** A connection to the listener at `url`, by the name `localhost`. It ends with the test. */
export async function openHttp2(url: string, ca: Buffer): Promise<ClientHttp2Session> {
  const { origin, port } = new URL(url.replace('127.0.0.1', 'localhost'));
  const socket = connectTls({
    host: '127.0.0.1',
    servername: 'localhost',
    port: Number(port),
    ca,
    ALPNProtocols: ['h2'],
  });
  // A session that fails may leave its socket open.
  cleanup.defer(() => void socket.destroy());
  const session = connect(origin, { createConnection: () => socket });
  cleanup.defer(() => session.destroy());
  session.on('error', () => undefined);
  await once(session, 'connect');
  return session;
}

/** One request on a connection of its own or of many; rejects unless the answer comes to a clean end. */
export async function askHttp2(
  session: ClientHttp2Session,
  path: string,
  headers: Record<string, string> = {},
): Promise<Http2Answer> {
  const stream = session.request({ ':path': path, ...headers });
  const { promise, resolve, reject } = Promise.withResolvers<Http2Answer>();
  const chunks: Buffer[] = [];
  stream.on('data', (chunk: Buffer) => chunks.push(chunk));
  stream.on('response', (answered) => {
    stream.on('end', () =>
      resolve({ status: Number(answered[':status']), headers: answered, body: Buffer.concat(chunks) }),
    );
  });
  stream.on('error', reject);
  stream.on('close', () => reject(new Error(`closed with ${stream.rstCode}`)));
  stream.end();
  return promise;
}
