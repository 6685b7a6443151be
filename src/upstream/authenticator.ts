import { BoundedMap } from '../cache/bounded-map.ts';
import { SingleFlight } from '../cache/single-flight.ts';
import type { UpstreamAuth } from '../config/upstream-config.ts';
import type { Secret } from '../core/secret.ts';
import type { Logger } from '../telemetry/logger.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Authorizer } from './authorizer.ts';
import type { Challenge } from './challenge.ts';
import { readBasicCredentials } from './credentials.ts';
import { mayReceiveCredentials } from './realm-rule.ts';
import { fetchToken, parseRealm } from './token-request.ts';
import type { Transport } from './transport.ts';

export interface AuthenticatorDeps {
  readonly upstream: string;
  /** URL of the upstream. */
  readonly base: URL;
  readonly auth: UpstreamAuth;
  readonly transport: Transport;
  readonly metrics: Metrics;
  readonly logger: Logger;
}

/** What a scope needs, learnt from its first challenge. */
interface Grant {
  readonly challenge: Challenge;
  readonly authorization: Secret;
  /** Milliseconds of `performance.now()`. */
  readonly expiresAtMs: number;
}

const MAX_SCOPES = 10_000;
/** A token is not used in its last seconds, or its last quarter where it lives shortly. */
const EXPIRY_MARGIN_MS = 30_000;

/**
 * Proves the proxy to one upstream: nothing until the upstream challenges, then Basic or Bearer as it wants, remembered for each
 * scope. Tokens are fetched once however many requests wait for one.
 */
export class Authenticator implements Authorizer {
  readonly #deps: AuthenticatorDeps;
  readonly #grants = new BoundedMap<Grant>({ maxEntries: MAX_SCOPES });
  readonly #flights: SingleFlight<Grant | undefined>;
  readonly #closing = new AbortController();

  constructor(deps: AuthenticatorDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('token', deps.metrics);
  }

  /** The `Authorization` value for a request of `scope`, or `undefined` to ask without one. */
  async authorization(scope: string, signal: AbortSignal | undefined): Promise<Secret | undefined> {
    const grant = this.#grants.get(scope);
    if (grant === undefined || performance.now() < grant.expiresAtMs) return grant?.authorization;
    return this.#renew(scope, [grant.challenge], signal);
  }

  /**
   * Answer the challenges of a 401. `refused` is the value that was sent: another that has been found since is used as it is.
   * Resolves to `undefined` if there is nothing to answer with.
   * @throws SpandrelError UNAUTHORIZED or an UPSTREAM_* code if the token service fails
   */
  async answer(
    scope: string,
    challenges: readonly Challenge[],
    refused: Secret | undefined,
    signal: AbortSignal | undefined,
  ): Promise<Secret | undefined> {
    const grant = this.#grants.get(scope);
    const isNewer =
      grant !== undefined && grant.authorization !== refused && performance.now() < grant.expiresAtMs;
    return isNewer ? grant.authorization : this.#renew(scope, challenges, signal);
  }

  /** Ends token requests under way. */
  close(reason: Error): void {
    this.#closing.abort(reason);
  }

  async #renew(
    scope: string,
    challenges: readonly Challenge[],
    signal: AbortSignal | undefined,
  ): Promise<Secret | undefined> {
    const grant = await this.#flights.run(scope, () => this.#grant(scope, challenges), signal);
    return grant?.authorization;
  }

  async #grant(scope: string, challenges: readonly Challenge[]): Promise<Grant | undefined> {
    this.#grants.delete(scope);
    const { upstream, auth } = this.#deps;
    const bearer = challenges.find(({ scheme }) => scheme === 'bearer');
    const basic = challenges.find(({ scheme }) => scheme === 'basic');
    if (bearer === undefined && basic === undefined) return undefined;
    const credentials = await readBasicCredentials(upstream, auth);
    let grant: Grant | undefined;
    if (bearer !== undefined) grant = await this.#bearer(scope, bearer, credentials);
    else if (basic !== undefined && credentials !== undefined) {
      // A password file is read again when its password is refused.
      grant = { challenge: basic, authorization: credentials, expiresAtMs: Number.POSITIVE_INFINITY };
    }
    if (grant !== undefined) this.#grants.set(scope, grant);
    return grant;
  }

  async #bearer(scope: string, challenge: Challenge, credentials: Secret | undefined): Promise<Grant> {
    const { upstream, base, transport, logger } = this.#deps;
    const realm = parseRealm(upstream, challenge);
    const isTrusted = mayReceiveCredentials(realm, base);
    if (!isTrusted && credentials !== undefined) {
      logger.warn(
        { upstream, realm: realm.host },
        'token service of another domain: credentials are not sent to it',
      );
    }
    const asked = performance.now();
    const token = await fetchToken(transport, {
      upstream,
      base,
      realm,
      service: challenge.parameters.get('service'),
      scope: challenge.parameters.get('scope') ?? (scope === '' ? undefined : scope),
      credentials: isTrusted ? credentials : undefined,
      signal: this.#closing.signal,
    });
    const lifetimeMs = token.expiresInSeconds * 1000;
    const expiresAtMs = asked + lifetimeMs - Math.min(EXPIRY_MARGIN_MS, lifetimeMs / 4);
    return { challenge, authorization: token.authorization, expiresAtMs };
  }
}
