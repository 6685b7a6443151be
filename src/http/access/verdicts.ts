import { createHmac, randomBytes } from 'node:crypto';

import { BoundedMap } from '../../cache/bounded-map.ts';
import { SingleFlight } from '../../cache/single-flight.ts';
import type { Events } from '../../telemetry/events.ts';

interface Entry<T> {
  readonly verdict: T;
  /** Milliseconds of `performance.now()`. */
  readonly reachedAtMs: number;
}

export interface LastVerdict<T> {
  readonly verdict: T;
  readonly ageMs: number;
}

export interface VerdictsOptions<T> {
  /** How long a verdict is reused. */
  readonly lifetimeMs: (verdict: T) => number;
  readonly events: Events;
  /** Milliseconds on a clock that only goes forward. */
  readonly nowMs?: () => number;
}

const MAX_VERDICTS = 50_000;

/**
 * Remembers verdicts about credentials for a short time. It keeps a keyed hash instead of the credentials,
 * and the key never leaves the process, so a copy of this memory does not reveal them.
 */
export class Verdicts<T> {
  readonly #options: VerdictsOptions<T>;
  readonly #nowMs: () => number;
  readonly #key = randomBytes(32);
  readonly #entries = new BoundedMap<Entry<T>>({ maxEntries: MAX_VERDICTS });
  readonly #flights: SingleFlight<T>;

  constructor(options: VerdictsOptions<T>) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#flights = new SingleFlight('access', options.events);
  }

  /**
   * The verdict on `parts`, which include the client's credentials. Calls `decide` if there is none, or it is
   * too old; `decide` gets the last verdict and its age. Concurrent calls with the same `question` share one
   * decision.
   */
  async get(
    parts: readonly string[],
    question: string,
    decide: (last: LastVerdict<T> | undefined) => Promise<{ verdict: T; keep: boolean }>,
    signal: AbortSignal,
  ): Promise<T> {
    const name = this.#nameOf(parts);
    const last = this.last(parts);
    if (last !== undefined && last.ageMs < this.#options.lifetimeMs(last.verdict)) return last.verdict;
    const work = async (): Promise<T> => {
      const { verdict, keep } = await decide(last);
      if (keep) this.#entries.set(name, { verdict, reachedAtMs: this.#nowMs() });
      return verdict;
    };
    return this.#flights.run(`${name} ${question}`, work, signal);
  }

  /** The last verdict on `parts`, whatever its age. */
  last(parts: readonly string[]): LastVerdict<T> | undefined {
    const entry = this.#entries.get(this.#nameOf(parts));
    return entry && { verdict: entry.verdict, ageMs: this.#nowMs() - entry.reachedAtMs };
  }

  #nameOf(parts: readonly string[]): string {
    return createHmac('sha256', this.#key).update(JSON.stringify(parts)).digest('base64');
  }
}
