import { createHash, timingSafeEqual } from 'node:crypto';

import { SpandrelError } from '../../core/errors.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import type { Secret } from '../../core/secret.ts';
import { isNoForm, type PageGuard, type PageRequest, REQUEST_HEADER } from './page-guard.ts';

/** Open to people and probes without a token: they show only what this is, and whether it works. */
const OPEN_ROUTES: ReadonlySet<string> = new Set(['/', '/healthz', '/readyz']);

export interface AdminRequest extends PageRequest {
  /** As the router sees it, without query. */
  readonly path: string;
  /** Address of the client. */
  readonly address: string;
  /** The client showed a certificate of the authority that was configured when it connected. */
  readonly hasCertificate: boolean;
}

export interface AdminRules {
  readonly token: Secret | undefined;
  /** A client authority is configured: its certificates replace the token. */
  readonly takesCertificates: boolean;
  /** For clients that show neither token nor certificate. */
  readonly pages: PageGuard;
}

/**
 * Checks every request of the admin listener. With a configured token: clients that send it. Without one,
 * others get health and metrics only, and clients of this machine get everything, unless they are web
 * pages.
 */
export class AdminGuard {
  #rules: AdminRules;

  constructor(rules: AdminRules) {
    this.#rules = rules;
  }

  replace(rules: AdminRules): void {
    this.#rules = rules;
  }

  /** @throws SpandrelError UNAUTHORIZED, DENIED */
  admit(request: AdminRequest): void {
    const { token, takesCertificates } = this.#rules;
    if (OPEN_ROUTES.has(request.path)) return;
    if (token !== undefined && showsToken(request, token)) return;
    if (!takesCertificates || !request.hasCertificate) this.#admitNobody(request);
    if (!isNoForm(request))
      throw new SpandrelError(
        'DENIED',
        'a request that changes something needs `Content-Type: application/json`, ' +
          `or the header ${REQUEST_HEADER}, or the token`,
      );
  }

  /** For clients that show neither token nor certificate. */
  #admitNobody(request: AdminRequest): void {
    const { token, pages } = this.#rules;
    if (token !== undefined) throw new SpandrelError('UNAUTHORIZED', 'the admin listener requires its token');
    if (isLoopback(request.address)) pages.admit(request);
    else if (request.path !== '/metrics')
      throw new SpandrelError('DENIED', 'without `admin.token` this is for clients on the same machine only');
  }
}

function showsToken({ headers }: AdminRequest, token: Secret): boolean {
  const [, shown = ''] = /^bearer +(\S+)$/i.exec(headers.authorization ?? '') ?? [];
  // `timingSafeEqual` needs equal lengths, which hashes have.
  return timingSafeEqual(sha256(shown), sha256(token.reveal()));
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
