import { waitFor } from '../core/wait-for.ts';
import type { Events } from '../telemetry/events.ts';
import type { FlightKind } from '../telemetry/metrics.ts';

interface Running<T> {
  readonly result: Promise<T>;
  readonly abandoned: AbortController;
  waiting: number;
}

const ABANDONED = new Error('no caller waits for it any more');

/**
 * As {@link SingleFlight}, for work that is aborted when all callers have stopped waiting. A later caller
 * starts it again.
 */
export class SharedWork<T> {
  readonly #running = new Map<string, Running<T>>();
  readonly #kind: FlightKind;
  readonly #events: Events;

  constructor(kind: FlightKind, events: Events) {
    this.#kind = kind;
    this.#events = events;
  }

  /**
   * The result of `work`, or of work with the same key that already runs. `signal` ends the wait of this
   * caller.
   */
  async run(key: string, work: (abandoned: AbortSignal) => Promise<T>, signal: AbortSignal): Promise<T> {
    signal.throwIfAborted();
    const joined = this.#running.get(key);
    if (joined !== undefined) this.#events.flightJoined(this.#kind);
    const running = joined ?? this.#start(key, work);
    running.waiting++;
    try {
      return await waitFor(running.result, signal);
    } finally {
      if (--running.waiting === 0) {
        this.#forget(key, running);
        running.abandoned.abort(ABANDONED);
      }
    }
  }

  #start(key: string, work: (abandoned: AbortSignal) => Promise<T>): Running<T> {
    const held = this.#events.hold('flight');
    const abandoned = new AbortController();
    const result = work(abandoned.signal).finally(() => {
      this.#forget(key, running);
      held[Symbol.dispose]();
    });
    const running = { result, abandoned, waiting: 0 };
    this.#running.set(key, running);
    return running;
  }

  #forget(key: string, running: Running<T>): void {
    if (this.#running.get(key) === running) this.#running.delete(key);
  }
}
