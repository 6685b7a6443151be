import type { Socket } from 'node:net';

import { Descriptors } from '../../telemetry/limits/descriptors.ts';
import type { Events } from '../../telemetry/events.ts';
import { type CertificateDates, readCertificateDates } from './certificate-dates.ts';
import type { NodeServer } from './create-node-server.ts';
import { certificateRequest, contextOptions, type TlsMaterial } from './tls-material.ts';

/** Names of the listeners: their sections in the configuration. */
export type ListenerName = 'listen' | 'admin';

/** The undocumented field of a socket with its descriptor. */
interface AcceptedSocket extends Socket {
  readonly _handle?: { readonly fd?: number } | null;
}

export interface ConnectionLimits {
  readonly maxConnections: number;
  readonly maxConnectionsPerAddress: number;
}

export interface ConnectionsDeps {
  readonly server: NodeServer;
  readonly listener: ListenerName;
  readonly limits: ConnectionLimits;
  readonly tls: TlsMaterial | undefined;
  readonly events: Events;
}

/**
 * The open connections of a listener, TLS handshakes included. A connection above a limit is closed at
 * once, and counted. Without descriptors the system's library would close it, and say nothing; so the last
 * ones are kept for files of the store, upstreams and the admin listener.
 */
export class Connections {
  readonly #server: NodeServer;
  readonly #sockets = new Set<Socket>();
  readonly #byAddress = new Map<string, number>();
  #maxPerAddress: number;
  readonly #listener: ListenerName;
  readonly #events: Events;
  #tls: TlsMaterial | undefined;
  #certificate: CertificateDates | undefined;

  /** @param tls material that the server was created with */
  constructor({ server, listener, limits, tls, events }: ConnectionsDeps) {
    this.#server = server;
    this.#listener = listener;
    this.#events = events;
    this.#tls = tls;
    this.#readDates(tls);
    this.#maxPerAddress = limits.maxConnectionsPerAddress;
    this.#takeLimit(limits.maxConnections);
    server.on('connection', (socket: Socket) => this.#add(socket));
    server.on('drop', () => {
      const limit = server.maxConnections;
      events.limits.connectionDropped(listener, 'connections', { used: limit, limit });
    });
  }

  /** What is wrong now with the dates of the certificates, and with the limit of file descriptors. */
  get problems(): readonly string[] {
    return [...this.#certificateProblems, ...this.#descriptorProblems];
  }

  get #certificateProblems(): readonly string[] {
    return this.#certificate?.problemsAt(Date.now()).map(({ text }) => text) ?? [];
  }

  /** Few connections reach the admin listener. */
  get #descriptorProblems(): readonly string[] {
    const { descriptors } = this.#events.limits;
    const problem =
      this.#listener === 'listen' ? descriptors.problemFor(this.#server.maxConnections) : undefined;
    return problem === undefined ? [] : [problem];
  }

  #takeLimit(maxConnections: number): void {
    this.#server.maxConnections = maxConnections;
    for (const problem of this.#descriptorProblems) this.#events.limits.descriptorsAreFew(problem);
  }

  #readDates(tls: TlsMaterial | undefined): void {
    if (tls === undefined) return;
    this.#certificate = readCertificateDates(this.#listener, tls);
    this.#events.certificateLoaded(this.#listener, this.#certificate.expiresAtMs, this.#certificateProblems);
  }

  /** For new connections. */
  replaceLimits({ maxConnections, maxConnectionsPerAddress }: ConnectionLimits): void {
    if (maxConnections !== this.#server.maxConnections) this.#takeLimit(maxConnections);
    this.#maxPerAddress = maxConnectionsPerAddress;
  }

  /**
   * For new handshakes. If the client authority has changed, all open connections are closed. TLS sessions
   * cannot be resumed: their tickets are bound to the old context.
   */
  replaceTls(tls: TlsMaterial | undefined): void {
    if (tls === undefined || !('setSecureContext' in this.#server)) return;
    this.#server.setSecureContext(contextOptions(tls));
    this.#readDates(tls);
    const isSame = sameAuthority(this.#tls, tls);
    this.#tls = tls;
    if (isSame) return;
    // Node reads these two for each handshake, and has no method to set them.
    Object.assign(this.#server, certificateRequest(tls));
    this.destroyAll();
  }

  /** The admin listener takes the last descriptors: somebody has to see what is wrong. */
  #leavesDescriptors(socket: AcceptedSocket): boolean {
    if (this.#listener === 'admin') return true;
    // A new descriptor is the lowest free one, so at least as many others are open.
    const used = socket._handle?.fd;
    const { limit } = this.#events.limits.descriptors;
    if (used === undefined || limit === undefined || used < limit - Descriptors.keptOf(limit)) return true;
    this.#events.limits.connectionDropped(this.#listener, 'descriptors', { used, limit });
    return false;
  }

  destroyAll(): void {
    for (const socket of this.#sockets) socket.destroy();
  }

  #add(socket: Socket): void {
    const address = socket.remoteAddress ?? '';
    const count = this.#byAddress.get(address) ?? 0;
    const limit = this.#maxPerAddress;
    if (count >= limit) {
      this.#events.limits.connectionDropped(this.#listener, 'address', { used: count, limit });
      socket.destroy();
      return;
    }
    if (!this.#leavesDescriptors(socket)) {
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
