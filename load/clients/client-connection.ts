import { Http2Connection } from './http2-connection.ts';
import { ReceivingConnection } from './receiving-connection.ts';
import type { Wire } from './wire.ts';

/** Result of a request. */
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
  /** Receives the pieces of the body in order; a piece is valid only during the call. */
  readonly onPiece?: (piece: Buffer, status: number) => void;
}

/** A persistent connection, closed on disposal. */
export interface ClientConnection extends Disposable {
  /**
   * Sends a request: one after the other, or several at once with HTTP/2.
   * @throws Error if the response fails
   */
  get(path: string, options?: ReceptionOptions): Promise<Reception>;
}

/**
 * @param buffer read buffer of {@link ReceivingConnection.receiveBuffer}; connections of one thread may share
 * it
 */
export function openConnection(url: string, wire: Wire, buffer: Buffer): Promise<ClientConnection> {
  return wire === 'tls h2' ? Http2Connection.open(url) : ReceivingConnection.open(url, buffer);
}
