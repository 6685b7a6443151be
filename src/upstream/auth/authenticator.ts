import { BoundedMap } from '../../cache/bounded-map.ts';
import { SingleFlight } from '../../cache/single-flight.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { Secret } from '../../core/secret.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Authorizer } from './authorizer.ts';
import type { Challenge } from './challenge.ts';
import type { Credentials, CredentialSource } from '../credentials/credentials.ts';
import { CredentialVerdict } from './credential-verdict.ts';
import { mayReceiveCredentials } from './may-receive-credentials.ts';
import { fetchToken, parseRealm, wantedScope } from './fetch-token.ts';
import type { Transport } from '../transport/transport.ts';

export interface AuthenticatorDeps {
  readonly upstream: string;
  /** URL of the upstream. */
  readonly base: URL;
  /** As {@link RegistryApiOptions.tokenHosts}. */
  readonly tokenHosts: readonly string[];
  readonly credentials: CredentialSource;
  readonly transport: Transport;
  readonly events: Events;
  readonly logger: Logger;
}

/** A token, and the challenge that it answers. */
interface Grant {
  readonly challenge: Challenge;
  readonly authorization: Secret;
  /** Milliseconds of `performance.now()`. */
  readonly expiresAtMs: number;
}

const MAX_SCOPES = 10_000;
/** A token is not used in its last seconds, or in the last quarter of a short lifetime. */
const EXPIRY_MARGIN_MS = 30_000;
const ANONYMOUS = 'the proxy has no credentials for this upstream: see its auth';
/** Key of a token that is valid for all repositories: no scope has this name. */
const EVERYWHERE = '*';

/**
 * Authenticates the proxy to one upstream. It sends no credentials until the upstream challenges it, then
 * Basic or Bearer as the challenge says. It keeps one token a scope, or one for all scopes if the upstream
 * does not distinguish them. Concurrent requests share one token request.
 */
export class Authenticator implements Authorizer {
  readonly #deps: AuthenticatorDeps;
  readonly #grants = new BoundedMap<Grant>({ maxEntries: MAX_SCOPES });
  readonly #flights: SingleFlight<Secret | undefined>;
  readonly #closing = new AbortController();
  readonly #verdict: CredentialVerdict;
  /** The upstream accepts the credentials themselves, without a token. */
  #isDirect = false;
  readonly party = undefined;
  hint: string | undefined;

  constructor(deps: AuthenticatorDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('token', deps.events);
    this.#verdict = new CredentialVerdict(deps);
  }

  /** The `Authorization` value for a request of `scope`; `undefined` to send none. */
  async authorization(scope: string, signal: AbortSignal | undefined): Promise<Secret | undefined> {
    if (this.#isDirect) return directAuthorization(await this.#readCredentials(signal));
    const grant = this.#grantFor(scope);
    if (grant === undefined || performance.now() < grant.expiresAtMs) return grant?.authorization;
    try {
      return await this.#renew(scope, [grant.challenge], grant.authorization, signal);
    } catch (error) {
      signal?.throwIfAborted();
      // The token service may have moved: the next challenge names it.
      this.#forget(scope, grant);
      if (isSpandrelError(error, 'UPSTREAM_CREDENTIALS_REFUSED', 'UPSTREAM_PROTOCOL')) return undefined;
      throw error;
    }
  }

  /**
   * Answers the challenges of a refusal; without any, the last one of the scope. `refused` is the value that
   * was sent. If there is a newer value, that is returned. A token that is refused with the challenge of
   * another service (as NVIDIA's registry does) is dropped, and the result is `retry-without`. `undefined`
   * means that there is nothing else to send.
   * @throws SpandrelError UPSTREAM_* codes if the token service fails
   */
  async answer(
    scope: string,
    challenges: readonly Challenge[],
    refused: Secret | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Secret | 'retry-without' | undefined> {
    const grant = this.#grantFor(scope);
    const isNewer =
      grant !== undefined && grant.authorization !== refused && performance.now() < grant.expiresAtMs;
    if (isNewer) return grant.authorization;
    if (grant !== undefined && grant.authorization === refused && isOfAnother(challenges, grant.challenge)) {
      this.#forget(scope, grant);
      return 'retry-without';
    }
    const known = challenges.length === 0 && grant !== undefined ? [grant.challenge] : challenges;
    return this.#renew(scope, known, refused, signal);
  }

  /** Responses judge the credentials only where these were sent themselves. */
  noteStatus(status: number): void {
    if (!this.#isDirect) return;
    if (status === 401) this.#verdict.refused(`upstream ${this.#deps.upstream} answered ${status}`);
    else if (status < 300) this.#verdict.accepted();
  }

  async #readCredentials(signal: AbortSignal | undefined): Promise<Credentials | undefined> {
    try {
      return await this.#deps.credentials.read(signal);
    } catch (error) {
      if (isSpandrelError(error, 'UPSTREAM_CREDENTIALS_REFUSED')) this.#verdict.refused(error.message);
      throw error;
    }
  }

  /** Aborts running requests for tokens and credentials. */
  close(reason: Error): void {
    this.#closing.abort(reason);
    this.#deps.credentials.close(reason);
  }

  #grantFor(scope: string): Grant | undefined {
    return this.#grants.get(scope) ?? this.#grants.get(EVERYWHERE);
  }

  #forget(scope: string, grant: Grant): void {
    for (const key of [scope, EVERYWHERE]) if (this.#grants.get(key) === grant) this.#grants.delete(key);
  }

  #renew(
    scope: string,
    challenges: readonly Challenge[],
    refused: Secret | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Secret | undefined> {
    return this.#flights.run(scope, () => this.#find(scope, challenges, refused), signal);
  }

  async #find(
    scope: string,
    challenges: readonly Challenge[],
    refused: Secret | undefined,
  ): Promise<Secret | undefined> {
    const { credentials: source } = this.#deps;
    const credentials = await this.#readCredentials(this.#closing.signal);
    const bearers = challenges.filter(({ scheme }) => scheme === 'bearer');
    const takesBasic = challenges.some(({ scheme }) => scheme === 'basic');
    const direct = directAuthorization(credentials);
    if (bearers.length > 0 && credentials?.kind !== 'bearer') {
      this.#isDirect = false;
      try {
        return await this.#fetchAnyToken(scope, bearers, credentials);
      } catch (error) {
        const mayBeTaken = takesBasic && direct !== undefined && !isSame(direct, refused);
        if (!mayBeTaken || !isSpandrelError(error, 'UPSTREAM_CREDENTIALS_REFUSED', 'UPSTREAM_PROTOCOL'))
          throw error;
      }
    } else if (!this.#isDirect && !takesBasic && bearers.length === 0) {
      return undefined;
    }
    this.hint = credentials === undefined ? ANONYMOUS : undefined;
    this.#isDirect = direct !== undefined;
    if (!isSame(direct, refused)) return direct;
    if (credentials !== undefined) source.refuse(credentials);
    const other = directAuthorization(await this.#readCredentials(this.#closing.signal));
    return isSame(other, refused) ? undefined : other;
  }

  /** A token of the first service that grants one. */
  async #fetchAnyToken(
    scope: string,
    challenges: readonly Challenge[],
    credentials: Credentials | undefined,
  ): Promise<Secret> {
    let failure: unknown;
    for (const challenge of challenges) {
      try {
        return await this.#fetchToken(scope, challenge, credentials);
      } catch (error) {
        if (!isSpandrelError(error, 'UPSTREAM_CREDENTIALS_REFUSED', 'UPSTREAM_PROTOCOL')) throw error;
        failure ??= error;
      }
    }
    throw failure;
  }

  async #fetchToken(
    scope: string,
    challenge: Challenge,
    credentials: Credentials | undefined,
  ): Promise<Secret> {
    const { credentials: source } = this.#deps;
    try {
      return await this.#exchange(scope, challenge, credentials);
    } catch (error) {
      if (credentials === undefined || !isSpandrelError(error, 'UPSTREAM_CREDENTIALS_REFUSED')) throw error;
      source.refuse(credentials);
      const other = await this.#readCredentials(this.#closing.signal);
      if (other !== undefined && secretOf(other) !== secretOf(credentials))
        return this.#exchange(scope, challenge, other);
      this.#verdict.failed(error);
      throw error;
    }
  }

  async #exchange(
    scope: string,
    challenge: Challenge,
    credentials: Credentials | undefined,
  ): Promise<Secret> {
    const { upstream, base, tokenHosts, transport, logger } = this.#deps;
    const realm = parseRealm(upstream, challenge);
    const isTrusted = mayReceiveCredentials(realm, base, tokenHosts);
    if (isTrusted || credentials === undefined) this.hint = credentials === undefined ? ANONYMOUS : undefined;
    else {
      this.hint =
        `its token service ${realm.host} is in another domain and gets no credentials: allow it in ` +
        'tokenHosts';
      logger.warn(
        { upstream, realm: realm.host },
        'the token service is in another domain: it gets credentials only if tokenHosts names it',
      );
    }
    const asked = performance.now();
    const wanted = wantedScope(challenge, scope);
    const token = await fetchToken(transport, {
      upstream,
      realm,
      service: challenge.parameters.get('service'),
      scope: wanted,
      credentials: isTrusted ? credentials : undefined,
      trusts: (place) => mayReceiveCredentials(place, base, tokenHosts),
      hint: this.hint,
      signal: this.#closing.signal,
    });
    if (isTrusted && credentials !== undefined) this.#verdict.accepted();
    const lifetimeMs = token.expiresInSeconds * 1000;
    const expiresAtMs = asked + lifetimeMs - Math.min(EXPIRY_MARGIN_MS, lifetimeMs / 4);
    // ECR Public has one scope, "aws", for all repositories.
    const isForAll = scope !== '' && wanted !== undefined && !wanted.includes('repository:');
    this.#grants.set(isForAll ? EVERYWHERE : scope, {
      challenge,
      authorization: token.authorization,
      expiresAtMs,
    });
    return token.authorization;
  }
}

/** True if no challenge names the token service of `known`. */
function isOfAnother(challenges: readonly Challenge[], known: Challenge): boolean {
  const bearers = challenges.filter(({ scheme }) => scheme === 'bearer');
  const isSameService = ({ parameters }: Challenge): boolean =>
    ['realm', 'service'].every((name) => parameters.get(name) === known.parameters.get(name));
  return bearers.length > 0 && !bearers.some(isSameService);
}

function directAuthorization(credentials: Credentials | undefined): Secret | undefined {
  return credentials === undefined || credentials.kind === 'identity-token'
    ? undefined
    : credentials.authorization;
}

function secretOf(credentials: Credentials): string {
  return credentials.kind === 'identity-token'
    ? credentials.token.reveal()
    : credentials.authorization.reveal();
}

function isSame(a: Secret | undefined, b: Secret | undefined): boolean {
  return a?.reveal() === b?.reveal();
}
