import { createHash, timingSafeEqual } from 'node:crypto';

import { SpandrelError } from '../../core/errors.ts';
import { isLoopback } from '../../core/is-loopback.ts';
import type { Secret } from '../../core/secret.ts';
import { isNoForm, type PageGuard, type PageRequest, REQUEST_HEADER } from './page-guard.ts';

/** Routes that tell nothing but what this is and how the process is, for people and probes that have no token. */
const OPEN_ROUTES: ReadonlySet<string> = new Set(['/', '/healthz', '/readyz']);

export interface AdminRequest extends PageRequest {
  /** As routed, without query. */
  readonly path: string;
  /** Address of the client. */
  readonly address: string;
  /** It has shown a certificate of the authority that was configured when its connection was opened. */
  readonly hasCertificate: boolean;
}

export interface AdminRules {
  readonly token: Secret | undefined;
  /** A client authority is configured: its certificates stand for the token. */
  readonly takesCertificates: boolean;
  /** For clients that show neither token nor certificate. */
  readonly pages: PageGuard;
}

/**
 * Who may use the operations listener. With a token: who has it. Without one, what changes or lists things is
 * for clients on this machine, so that an address that others reach gives them health and metrics only; and
 * not for pages that a browser there shows.
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
        `what changes something wants \`Content-Type: application/json\`, or the header ${REQUEST_HEADER}, or the token`,
      );
  }

  /** For clients that show neither token nor certificate. */
  #admitNobody(request: AdminRequest): void {
    const { token, pages } = this.#rules;
    if (token !== undefined)
      throw new SpandrelError('UNAUTHORIZED', 'the operations listener wants its token');
    if (isLoopback(request.address)) pages.admit(request);
    else if (request.path !== '/metrics')
      throw new SpandrelError('DENIED', 'without `admin.token` this is for clients on the same machine only');
  }
}

function showsToken({ headers }: AdminRequest, token: Secret): boolean {
  const [, shown = ''] = /^bearer +(\S+)$/i.exec(headers.authorization ?? '') ?? [];
  // Hashes are of one length, whatever is shown.
  return timingSafeEqual(sha256(shown), sha256(token.reveal()));
}

function sha256(text: string): Buffer {
  return createHash('sha256').update(text).digest();
}
