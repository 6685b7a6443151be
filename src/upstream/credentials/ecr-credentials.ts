import { SingleFlight } from '../../cache/single-flight.ts';
import type { SpandrelError } from '../../core/errors.ts';
import { Secret } from '../../core/secret.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { Credentials, CredentialSource } from './credentials.ts';
import { explainAwsFault, isWithoutAwsCredentials } from './aws-fault.ts';
import { type EcrTokenApi, type EcrTokenOptions, openEcrTokenApi } from './ecr-token-api.ts';

export interface EcrCredentialsDeps extends EcrTokenOptions {
  /** Name of the upstream. */
  readonly upstream: string;
  readonly events: Events;
  readonly logger: Logger;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
}

interface Held {
  /** `undefined` for ECR Public without an AWS account. */
  readonly credentials: Credentials | undefined;
  readonly fetchedAtMs: number;
  renewAtMs: number;
  readonly expiresAtMs: number;
}

/** A token of 12 hours is renewed after six, so it survives a control plane outage of almost six hours. */
const RENEWED_SHARE = 0.5;
const EXPIRY_MARGIN_MS = 60_000;
/** Shortest time that a token is used. Clocks differ, so it may seem to have expired. */
const SHORTEST_LIFE_MS = 5 * 60_000;
/** Lifetime of ECR's tokens. */
const LONGEST_LIFE_MS = 12 * 3_600_000;
/** User name in all tokens of ECR. */
const AWS_USER = 'AWS';
/** Shortest time between failed renewals, and shortest age of a token that is replaced. */
const LEAST_INTERVAL_MS = 10_000;
/** How long ECR Public is used anonymously before the SDK looks for credentials again. */
const ANONYMOUS_MS = 15 * 60_000;

/**
 * Tokens of Amazon ECR, kept in memory. They are renewed in the background long before they expire, and at
 * once when refused.
 */
export class EcrCredentials implements CredentialSource {
  readonly user: string;
  readonly #deps: EcrCredentialsDeps;
  readonly #now: () => number;
  readonly #flights: SingleFlight<Held>;
  readonly #closing = new AbortController();
  #api: EcrTokenApi | undefined;
  #held: Held | undefined;
  #failure: { readonly error: SpandrelError; readonly atMs: number } | undefined;

  constructor(deps: EcrCredentialsDeps) {
    this.user = deps.roleArn ?? AWS_USER;
    this.#deps = deps;
    this.#now = deps.now ?? (() => performance.now());
    this.#flights = new SingleFlight('token', deps.events);
  }

  /**
   * @throws SpandrelError UPSTREAM_CREDENTIALS_REFUSED, UPSTREAM_THROTTLED, UPSTREAM_TIMEOUT,
   * UPSTREAM_UNREACHABLE
   */
  async read(signal: AbortSignal | undefined): Promise<Credentials | undefined> {
    const now = this.#now();
    const held = this.#held;
    if (held === undefined || now >= held.expiresAtMs) return (await this.#renew(signal)).credentials;
    if (now >= held.renewAtMs || now < held.fetchedAtMs) {
      held.renewAtMs = now + LEAST_INTERVAL_MS;
      // The current token is still valid. The failure is logged, and a later request tries again.
      this.#renew(undefined).catch(() => undefined);
    }
    return held.credentials;
  }

  refuse(refused: Credentials): void {
    const held = this.#held;
    if (held?.credentials === refused && this.#now() - held.fetchedAtMs >= LEAST_INTERVAL_MS)
      this.#held = undefined;
  }

  close(reason: Error): void {
    this.#closing.abort(reason);
    this.#api?.close();
  }

  async #renew(signal: AbortSignal | undefined): Promise<Held> {
    const failure = this.#failure;
    if (failure !== undefined && this.#isWithin(failure.atMs, LEAST_INTERVAL_MS)) throw failure.error;
    return this.#flights.run('ecr', () => this.#fetch(), signal);
  }

  async #fetch(): Promise<Held> {
    const { upstream, events, logger } = this.#deps;
    try {
      this.#api ??= await openEcrTokenApi(this.#deps);
      const { basicPair, expiresAtMs } = await this.#api.fetchToken(this.#closing.signal);
      events.ecrTokenFetched(upstream);
      this.#failure = undefined;
      this.#held = this.#hold(
        { kind: 'basic', authorization: new Secret(`Basic ${basicPair}`) },
        expiresAtMs - Date.now(),
      );
    } catch (error) {
      if (this.#deps.host?.kind === 'public' && isWithoutAwsCredentials(error)) {
        logger.info({ upstream }, 'no AWS credentials: ECR Public is used anonymously');
        this.#held = this.#hold(undefined, ANONYMOUS_MS);
        return this.#held;
      }
      this.#closing.signal.throwIfAborted();
      const fault = explainAwsFault(upstream, error);
      events.ecrTokenFailed(upstream, fault.outcome, error);
      this.#failure = { error: fault.error, atMs: this.#now() };
      throw fault.error;
    }
    return this.#held;
  }

  /** A time in the future is of a clock that was set back since: it counts as over. */
  #isWithin(sinceMs: number, ageMs: number): boolean {
    const now = this.#now();
    return now >= sinceMs && now - sinceMs < ageMs;
  }

  #hold(credentials: Credentials | undefined, saidLifetimeMs: number): Held {
    const lifetimeMs = Math.min(LONGEST_LIFE_MS, Math.max(SHORTEST_LIFE_MS, saidLifetimeMs));
    const now = this.#now();
    return {
      credentials,
      fetchedAtMs: now,
      renewAtMs: now + lifetimeMs * RENEWED_SHARE,
      expiresAtMs: now + lifetimeMs - EXPIRY_MARGIN_MS,
    };
  }
}
