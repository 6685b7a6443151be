/** Whether a request may be sent: `open` not, `probe` as a test, `closed` normally. */
export type Passage = 'open' | 'probe' | 'closed';

/** As the `upstream.circuit` section of the configuration. */
export interface CircuitOptions {
  /** Failed requests in a row, retries included, that open the circuit. */
  readonly failures: number;
  /** How long an open circuit refuses requests; then one request probes the host. */
  readonly openMs: number;
}

/**
 * Keeps requests from a host that is down. After some failures in a row, requests fail at once for a while;
 * then one request probes the host. Times are milliseconds of any monotonic clock.
 */
export class CircuitBreaker {
  readonly #options: CircuitOptions;
  #failures = 0;
  #openUntilMs: number | undefined;
  #isProbing = false;
  #lastFailure = '';

  constructor(options: CircuitOptions) {
    this.#options = options;
  }

  get isOpen(): boolean {
    return this.#openUntilMs !== undefined;
  }

  /** When the next request may probe the host; `undefined` while the circuit is closed. */
  get openUntilMs(): number | undefined {
    return this.#openUntilMs;
  }

  /** What the last request failed with. */
  get lastFailure(): string {
    return this.#lastFailure;
  }

  /** Whether a request may be sent. After `probe` and `closed`, call one of the methods below. */
  enter(nowMs: number): Passage {
    if (this.#openUntilMs === undefined) return 'closed';
    if (nowMs < this.#openUntilMs || this.#isProbing) return 'open';
    this.#isProbing = true;
    return 'probe';
  }

  /** The host responded. */
  succeed(): void {
    this.#failures = 0;
    this.#openUntilMs = undefined;
    this.#isProbing = false;
  }

  fail(nowMs: number, why: string): void {
    this.#lastFailure = why;
    this.#failures++;
    if (this.#failures >= this.#options.failures) this.#openUntilMs = nowMs + this.#options.openMs;
    this.#isProbing = false;
  }

  /** The request was aborted before the state of the host was known. */
  leave(passage: Passage): void {
    if (passage === 'probe') this.#isProbing = false;
  }
}
