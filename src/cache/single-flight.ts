import type { Metrics } from '../telemetry/metrics.ts';
import { waitFor } from '../core/wait-for.ts';

/** What is being shared; label of `single_flight_joined_total`. */
export type FlightKind = 'blob' | 'access' | 'span' | 'index' | 'manifest' | 'token' | 'tags' | 'referrers';

/**
 * Work that is done once for all who ask while it runs. Its size is the number of keys under way, nothing is kept when the
 * work ends. The work does not stop when those who wait for it leave.
 */
export class SingleFlight<T> {
  readonly #running = new Map<string, Promise<T>>();
  readonly #kind: FlightKind;
  readonly #metrics: Metrics;

  constructor(kind: FlightKind, metrics: Metrics) {
    this.#kind = kind;
    this.#metrics = metrics;
  }

  /** The result of `work`, or of the same key's work already under way. `signal` ends this caller's waiting only. */
  run(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const running = this.#running.get(key);
    if (running !== undefined) {
      this.#metrics.singleFlightJoined.inc({ what: this.#kind });
      return waitFor(running, signal);
    }
    const held = this.#metrics.hold('flight');
    const started = work().finally(() => {
      this.#running.delete(key);
      held[Symbol.dispose]();
    });
    this.#running.set(key, started);
    return waitFor(started, signal);
  }
}
