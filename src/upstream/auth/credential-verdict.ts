import type { SpandrelError } from '../../core/errors.ts';
import type { Events } from '../../telemetry/events.ts';
import type { CredentialSource } from '../credentials/credentials.ts';

export interface CredentialVerdictDeps {
  readonly upstream: string;
  readonly credentials: CredentialSource;
  readonly events: Events;
}

/**
 * Statuses that refuse the credentials themselves: 400 is OAuth 2's for a refresh token (RFC 6749, section
 * 5.2). 403 is about a repository.
 */
const REFUSALS: ReadonlySet<unknown> = new Set([400, 401]);

/** Whether an upstream takes the credentials of the proxy. Reports changes only, not each request. */
export class CredentialVerdict {
  readonly #deps: CredentialVerdictDeps;
  /** User of the refused credentials; empty if it is not known. */
  #refusedUser: string | undefined;

  constructor(deps: CredentialVerdictDeps) {
    this.#deps = deps;
    deps.events.credentialsAccepted(deps.upstream, false);
  }

  accepted(): void {
    if (this.#refusedUser === undefined) return;
    this.#refusedUser = undefined;
    this.#deps.events.credentialsAccepted(this.#deps.upstream, true);
  }

  refused(why: string): void {
    const { upstream, credentials, events } = this.#deps;
    const { user = '' } = credentials;
    if (this.#refusedUser === user) return;
    this.#refusedUser = user;
    events.credentialsRefused(upstream, user === '' ? undefined : user, why);
  }

  /** The token service failed with `error`. */
  failed({ message, detail }: SpandrelError): void {
    if (REFUSALS.has(detail?.['status'])) this.refused(message);
  }
}
