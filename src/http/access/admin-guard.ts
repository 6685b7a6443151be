import { createHash, timingSafeEqual } from 'node:crypto';
import { BlockList } from 'node:net';

import { SpandrelError } from '../../core/errors.ts';
import type { Secret } from '../../core/secret.ts';

/** Routes that tell nothing but what this is and how the process is, for people and probes that have no token. */
const OPEN_ROUTES: ReadonlySet<string> = new Set(['/', '/healthz', '/readyz']);

const LOOPBACK = new BlockList();
LOOPBACK.addSubnet('127.0.0.0', 8, 'ipv4');
LOOPBACK.addAddress('::1', 'ipv6');

export interface AdminRequest {
  /** As routed, without query. */
  readonly path: string;
  readonly authorization: string | undefined;
  /** Address of the client. */
  readonly address: string;
  /** Its certificate is of the authority that is configured. */
  readonly hasCertificate: boolean;
}

/**
 * Who may use the operations listener. With a token: who has it. Without one, what changes or lists things is for clients on this
 * machine, so that an address that others reach gives them health and metrics only.
 */
export class AdminGuard {
  #token: Secret | undefined;

  constructor(token: Secret | undefined) {
    this.#token = token;
  }

  replaceToken(token: Secret | undefined): void {
    this.#token = token;
  }

  /** @throws SpandrelError UNAUTHORIZED, DENIED */
  admit({ path, authorization, address, hasCertificate }: AdminRequest): void {
    if (OPEN_ROUTES.has(path) || hasCertificate) return;
    if (this.#token === undefined) {
      if (path === '/metrics' || LOOPBACK.check(address, address.includes(':') ? 'ipv6' : 'ipv4')) return;
      throw new SpandrelError('DENIED', 'without `admin.token` this is for clients on the same machine only');
    }
    const [, shown = ''] = /^bearer +(\S+)$/i.exec(authorization ?? '') ?? [];
    // Hashes are of one length, whatever is shown.
    if (!timingSafeEqual(sha256(shown), sha256(this.#token.reveal())))
      throw new SpandrelError('UNAUTHORIZED', 'the operations listener wants its token');
  }
}

/** True for an address that only this machine reaches. */
export function isLoopback(host: string): boolean {
  if (host === 'localhost') return true;
  return LOOPBACK.check(host, host.includes(':') ? 'ipv6' : 'ipv4');
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
