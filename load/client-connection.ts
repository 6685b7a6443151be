import { Http2Connection } from './http2-connection.ts';
import { ReceivingConnection } from './receiving-connection.ts';
import type { Wire } from './wire.ts';

/** What came of a request. */
export interface Reception {
  readonly status: number;
  /** Of the body. */
  readonly bytes: number;
  readonly firstByteMs: number;
  readonly totalMs: number;
}

export interface ReceptionOptions {
  /** Inclusive end, as in the header: `0-1023`. */
  readonly range?: string;
  readonly accept?: string;
  /** Told of each piece of the body, in order; the piece is only good until it returns. */
  readonly onPiece?: (piece: Buffer, status: number) => void;
}

/** A connection that is kept alive, and closed when it is disposed of. */
export interface ClientConnection extends Disposable {
  /** One request after another, with HTTP/2 several at once. @throws Error if the answer does not come to a good end */
  get(path: string, options?: ReceptionOptions): Promise<Reception>;
}

/** @param buffer for reading, of {@link ReceivingConnection.receiveBuffer}; connections of one thread may share it */
export function openConnection(url: string, wire: Wire, buffer: Buffer): Promise<ClientConnection> {
  return wire === 'tls h2' ? Http2Connection.open(url) : ReceivingConnection.open(url, buffer);
}
