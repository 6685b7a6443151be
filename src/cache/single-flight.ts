import type { Events } from '../telemetry/events.ts';
import type { FlightKind } from '../telemetry/metrics.ts';
import { waitFor } from '../core/wait-for.ts';

/**
 * Runs work once for all concurrent callers with the same key. Keeps nothing when the work ends. The work
 * goes on even if all callers stop waiting.
 */
export class SingleFlight<T> {
  readonly #running = new Map<string, Promise<T>>();
  readonly #kind: FlightKind;
  readonly #events: Events;

  constructor(kind: FlightKind, events: Events) {
    this.#kind = kind;
    this.#events = events;
  }

  /**
   * The result of `work`, or of work with the same key that already runs. `signal` ends the wait of this
   * caller only.
   */
  run(key: string, work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const running = this.#running.get(key);
    if (running !== undefined) {
      this.#events.flightJoined(this.#kind);
      return waitFor(running, signal);
    }
    const held = this.#events.hold('flight');
    const started = work().finally(() => {
      this.#running.delete(key);
      held[Symbol.dispose]();
    });
    this.#running.set(key, started);
    return waitFor(started, signal);
  }
}
