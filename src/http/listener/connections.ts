import type { Socket } from 'node:net';

import type { NodeServer } from './create-node-server.ts';
import { certificateRequest, contextOptions, type TlsMaterial } from './tls-material.ts';

export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
}

/**
 * The open connections of a listener, TLS handshakes included. A connection above a limit is closed at
 * once.
 */
export class Connections {
  readonly #server: NodeServer;
  readonly #sockets = new Set<Socket>();
  readonly #byAddress = new Map<string, number>();
  #maxPerAddress: number;
  #tls: TlsMaterial | undefined;

  /** @param tls material that the server was created with */
  constructor(server: NodeServer, limits: ConnectionLimits, tls: TlsMaterial | undefined) {
    this.#server = server;
    this.#tls = tls;
    this.#maxPerAddress = limits.maxConnectionsPerAddress;
    server.maxConnections = limits.maxConnections;
    server.on('connection', (socket: Socket) => this.#add(socket));
  }

  /** For new connections. */
  replaceLimits({ maxConnections, maxConnectionsPerAddress }: ConnectionLimits): void {
    this.#server.maxConnections = maxConnections;
    this.#maxPerAddress = maxConnectionsPerAddress;
  }

  /**
   * For new handshakes. If the client authority has changed, all open connections are closed. TLS sessions
   * cannot be resumed: their tickets are bound to the old context.
   */
  replaceTls(tls: TlsMaterial | undefined): void {
    if (tls === undefined || !('setSecureContext' in this.#server)) return;
    this.#server.setSecureContext(contextOptions(tls));
    if (sameAuthority(this.#tls, tls)) return;
    this.#tls = tls;
    // Node reads these two for each handshake, and has no method to set them.
    Object.assign(this.#server, certificateRequest(tls));
    this.destroyAll();
  }

  destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #add(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const count = this.#byAddress.get(address) ?? 0;
    if (count >= this.#maxPerAddress) {
      socket.destroy();
      return;
    }
    this.#sockets.add(socket);
    this.#byAddress.set(address, count + 1);
    socket.once('close', () => {
      this.#sockets.delete(socket);
      const left = (this.#byAddress.get(address) ?? 1) - 1;
      if (left === 0) this.#byAddress.delete(address);
      else this.#byAddress.set(address, left);
    });
  }
}

function sameAuthority(one: TlsMaterial | undefined, other: TlsMaterial): boolean {
  const [before, after] = [one?.clientCa, other.clientCa];
  return before === undefined || after === undefined ? before === after : before.equals(after);
}
