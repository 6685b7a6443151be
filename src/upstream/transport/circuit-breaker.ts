/** What becomes of a request before it is sent. */
export type Passage = 'open' | 'probe' | 'closed';

/** The `upstream.circuit` section of the configuration. */
export interface CircuitOptions {
  /** Requests in a row, their retries included, that fail before no more are sent. */
  readonly failures: number;
  /** How long none are sent then; after that one may try. */
  readonly openMs: number;
}

/**
 * Keeps requests from a host that is down: after some failures in a row they fail at once, for a while, and then one request tries
 * whether the host is back. Times are milliseconds of any clock that only goes forward.
 */
export class CircuitBreaker {
  readonly #options: CircuitOptions;
  #failures = 0;
  #openUntilMs: number | undefined;
  #isProbing = false;

  constructor(options: CircuitOptions) {
    this.#options = options;
  }

  get isOpen(): boolean {
    return this.#openUntilMs !== undefined;
  }

  /** Whether a request may be sent. For `probe` and `closed` one of the three below must follow. */
  enter(nowMs: number): Passage {
    if (this.#openUntilMs === undefined) return 'closed';
    if (nowMs < this.#openUntilMs || this.#isProbing) return 'open';
    this.#isProbing = true;
    return 'probe';
  }

  /** The host has answered. */
  succeed(): void {
    this.#failures = 0;
    this.#openUntilMs = undefined;
    this.#isProbing = false;
  }

  fail(nowMs: number): void {
    this.#failures++;
    if (this.#failures >= this.#options.failures) this.#openUntilMs = nowMs + this.#options.openMs;
    this.#isProbing = false;
  }

  /** Whoever asked has left before anything could be told of the host. */
  leave(passage: Passage): void {
    if (passage === 'probe') this.#isProbing = false;
  }
}
