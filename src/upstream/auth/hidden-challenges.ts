import { SingleFlight } from '../../cache/single-flight.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { Events } from '../../telemetry/events.ts';
import { type Challenge, parseChallenges } from './challenge.ts';
import type { Transport } from '../transport/transport.ts';

const REMEMBERED_MS = 600_000;

export interface HiddenChallengesDeps {
  readonly transport: Transport;
  /** `/v2/` of the upstream. */
  readonly root: URL;
  readonly events: Events;
}

/**
 * The challenges of `/v2/`, which docker and skopeo request first. Some registries (Nexus, Artifactory) hide
 * private content: elsewhere they send 404 or 403 without a challenge to requests without credentials.
 */
export class HiddenChallenges {
  readonly #deps: HiddenChallengesDeps;
  readonly #flights: SingleFlight<readonly Challenge[]>;
  readonly #closing = new AbortController();
  #known: { readonly challenges: readonly Challenge[]; readonly atMs: number } | undefined;

  constructor(deps: HiddenChallengesDeps) {
    this.#deps = deps;
    this.#flights = new SingleFlight('token', deps.events);
  }

  /**
   * Empty for an open registry, and for one that fails. Costs at most one request in ten minutes unless that
   * fails.
   */
  async read(signal: AbortSignal | undefined): Promise<readonly Challenge[]> {
    if (this.#known !== undefined && performance.now() - this.#known.atMs < REMEMBERED_MS)
      return this.#known.challenges;
    return this.#flights.run('', () => this.#ask(), signal);
  }

  async #ask(): Promise<readonly Challenge[]> {
    const { transport, root: url } = this.#deps;
    try {
      const headers = { 'accept-encoding': 'identity' };
      const request = { kind: 'ping', method: 'GET', url, headers, signal: this.#closing.signal } as const;
      const response = await transport.request(request);
      await response.body.discard();
      const isChallenge = response.status === 401;
      const challenges = isChallenge ? parseChallenges(response.headers['www-authenticate']) : [];
      this.#known = { challenges, atMs: performance.now() };
      return challenges;
    } catch (error) {
      if (!isSpandrelError(error)) throw error;
      return [];
    }
  }

  /** Aborts a running request. */
  close(reason: Error): void {
    this.#closing.abort(reason);
  }
}
