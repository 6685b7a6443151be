import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { connect as connectTls } from 'node:tls';

import type { ClientConnection, Reception, ReceptionOptions } from './client-connection.ts';

/** The most that one read of the socket returns: few large reads keep a client cheap. */
const READ_BYTES = 2 ** 20;
const HEAD_END = Buffer.from('\r\n\r\n');

interface Pending {
  readonly options: ReceptionOptions;
  readonly startedMs: number;
  readonly resolve: (reception: Reception) => void;
  readonly reject: (error: Error) => void;
  head: Buffer;
  status: number;
  /** Body bytes that are still missing; NaN until the head is complete. */
  left: number;
  bytes: number;
  firstByteMs: number;
}

/**
 * One persistent HTTP/1.1 connection, with TLS for `https:`. A minimal client: one request at a time, bodies
 * pass through one buffer and are dropped, and responses need Content-Length.
 */
export class ReceivingConnection implements ClientConnection {
  readonly #socket: Socket;
  readonly #host: string;
  readonly #isSecure: boolean;
  #pending: Pending | undefined;

  private constructor(url: URL, buffer: Buffer) {
    this.#host = url.host;
    const onread = {
      buffer,
      callback: (bytes: number, read: Uint8Array) => {
        this.#receive(Buffer.from(read.buffer as ArrayBuffer, read.byteOffset, bytes));
        return true;
      },
    };
    const address = { host: url.hostname, port: Number(url.port), onread };
    this.#isSecure = url.protocol === 'https:';
    this.#socket = this.#isSecure
      ? connectTls({ ...address, ALPNProtocols: ['http/1.1'] })
      : connect(address);
    this.#socket.setNoDelay();
    this.#socket.on('error', (error) => this.#fail(error));
    this.#socket.on('close', () =>
      this.#fail(new Error('the connection was closed before the answer ended')),
    );
  }

  /** @param buffer read buffer of {@link receiveBuffer}; connections of one thread may share it */
  static async open(url: string, buffer: Buffer): Promise<ReceivingConnection> {
    const connection = new ReceivingConnection(new URL(url), buffer);
    await once(connection.#socket, connection.#isSecure ? 'secureConnect' : 'connect');
    return connection;
  }

  static receiveBuffer(): Buffer {
    return Buffer.allocUnsafeSlow(READ_BYTES);
  }

  /** @throws Error if the connection ends before the response does */
  async get(path: string, options: ReceptionOptions = {}): Promise<Reception> {
    const { promise, resolve, reject } = Promise.withResolvers<Reception>();
    this.#pending = {
      options,
      startedMs: performance.now(),
      resolve,
      reject,
      head: Buffer.alloc(0),
      status: 0,
      left: Number.NaN,
      bytes: 0,
      firstByteMs: Number.NaN,
    };
    const range = options.range === undefined ? '' : `Range: bytes=${options.range}\r\n`;
    const accept = options.accept === undefined ? '' : `Accept: ${options.accept}\r\n`;
    if (this.#socket.destroyed) this.#fail(new Error('the connection has been closed'));
    else this.#socket.write(`GET ${path} HTTP/1.1\r\nHost: ${this.#host}\r\n${accept}${range}\r\n`);
    return await promise;
  }

  /** Closes the connection at once. */
  [Symbol.dispose](): void {
    this.#socket.destroy();
  }

  #receive(piece: Buffer): void {
    const pending = this.#pending;
    if (pending === undefined) return;
    const body = Number.isNaN(pending.left) ? this.#readHead(pending, piece) : piece;
    if (body === undefined) return;
    if (body.length > pending.left) return this.#fail(new Error('more than was announced'));
    if (body.length > 0) {
      if (pending.bytes === 0) pending.firstByteMs = performance.now() - pending.startedMs;
      try {
        pending.options.onPiece?.(body, pending.status);
      } catch (error) {
        return this.#fail(error as Error);
      }
      pending.bytes += body.length;
      pending.left -= body.length;
    }
    if (pending.left > 0) return;
    this.#pending = undefined;
    const { status, bytes, firstByteMs, startedMs } = pending;
    pending.resolve({ status, bytes, firstByteMs, totalMs: performance.now() - startedMs });
  }

  /** The bytes after the head; `undefined` if the head is incomplete. */
  #readHead(pending: Pending, piece: Buffer): Buffer | undefined {
    const text = Buffer.concat([pending.head, piece]);
    const end = text.indexOf(HEAD_END);
    if (end < 0) {
      pending.head = text;
      return undefined;
    }
    const head = text.toString('latin1', 0, end);
    pending.status = Number(/^HTTP\/1\.1 (\d+)/.exec(head)?.[1]);
    pending.left = Number(/^content-length: *(\d+)/im.exec(head)?.[1]);
    if (Number.isNaN(pending.left)) {
      this.#fail(new Error(`no Content-Length:\n${head}`));
      return undefined;
    }
    return text.subarray(end + HEAD_END.length);
  }

  #fail(error: Error): void {
    const pending = this.#pending;
    this.#pending = undefined;
    pending?.reject(error);
    this.#socket.destroy();
  }
}
