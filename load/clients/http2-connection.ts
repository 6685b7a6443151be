import { once } from 'node:events';
import { type ClientHttp2Session, connect } from 'node:http2';

import type { ClientConnection, Reception, ReceptionOptions } from './client-connection.ts';

/** Flow control per stream and connection, as in Go's `http2.Transport` and so in the snapshotter. */
const STREAM_WINDOW_BYTES = 4 * 2 ** 20;
const CONNECTION_WINDOW_BYTES = 2 ** 30;

/** One HTTP/2 connection over TLS. */
export class Http2Connection implements ClientConnection {
  readonly #session: ClientHttp2Session;

  private constructor(session: ClientHttp2Session) {
    this.#session = session;
    // The affected requests fail on their own.
    session.on('error', () => undefined);
  }

  static async open(url: string): Promise<Http2Connection> {
    const settings = { initialWindowSize: STREAM_WINDOW_BYTES, enablePush: false };
    const session = connect(url, { settings });
    const connection = new Http2Connection(session);
    await once(session, 'connect');
    session.setLocalWindowSize(CONNECTION_WINDOW_BYTES);
    return connection;
  }

  async get(path: string, { range, accept, onPiece }: ReceptionOptions = {}): Promise<Reception> {
    const startedMs = performance.now();
    const { promise, resolve, reject } = Promise.withResolvers<Reception>();
    const stream = this.#session.request({
      ':path': path,
      ...(range === undefined ? {} : { range: `bytes=${range}` }),
      ...(accept === undefined ? {} : { accept }),
    });
    let [status, left, bytes, firstByteMs] = [0, Number.NaN, 0, Number.NaN];
    stream.on('response', (headers) => {
      status = headers[':status'] ?? 0;
      left = Number(headers['content-length']);
    });
    stream.on('data', (piece: Buffer) => {
      if (bytes === 0) firstByteMs = performance.now() - startedMs;
      try {
        onPiece?.(piece, status);
      } catch (error) {
        reject(error);
      }
      bytes += piece.length;
      left -= piece.length;
    });
    stream.on('end', () => {
      if (left === 0) resolve({ status, bytes, firstByteMs, totalMs: performance.now() - startedMs });
      else reject(new Error(`${left} bytes are missing of what was announced`));
    });
    stream.on('error', reject);
    stream.on('close', () => reject(new Error('the stream was closed before the answer ended')));
    stream.end();
    return await promise;
  }

  [Symbol.dispose](): void {
    this.#session.destroy();
  }
}
