import { SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import type { Events } from '../telemetry/events.ts';
import type { Patience } from './patience.ts';
import type { FlightKind } from '../telemetry/metrics.ts';

/** Beyond this, callers with an older result start no more work. */
const MAX_RUNNING = 256;

/**
 * Runs work once for all concurrent callers. A caller with an older result waits only briefly, then uses that
 * while the work goes on. Disposal aborts the work.
 */
export class PatientFlight<T> implements AsyncDisposable {
  readonly #running = new Map<string, Promise<T>>();
  readonly #closing = new AbortController();
  readonly #kind: FlightKind;
  readonly #events: Events;
  readonly #patience: Patience;

  constructor(kind: FlightKind, events: Events, patience: Patience) {
    this.#kind = kind;
    this.#events = events;
    this.#patience = patience;
  }

  /** Whether a caller would get the result of work that began before. */
  isRunning(key: string): boolean {
    return this.#running.has(key);
  }

  /**
   * The result of `work`, or of work with the same key that already runs. `signal` ends the wait of this
   * caller only.
   */
  run(key: string, work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return waitFor(this.#join(key, work), signal);
  }

  /**
   * As {@link run}, for a caller with an older result. `undefined` means: use that.
   * @param subject what the work depends on: as in {@link Patience.wait}
   */
  async runPatiently(
    key: string,
    subject: string,
    work: (signal: AbortSignal) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T | undefined> {
    if (this.#running.size >= MAX_RUNNING && !this.#running.has(key)) return undefined;
    return this.#patience.wait(subject, this.#join(key, work), signal);
  }

  #join(key: string, work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const running = this.#running.get(key);
    if (running !== undefined) {
      this.#events.flightJoined(this.#kind);
      return running;
    }
    const held = this.#events.hold('flight');
    const started = work(this.#closing.signal).finally(() => {
      this.#running.delete(key);
      held[Symbol.dispose]();
    });
    this.#running.set(key, started);
    // A failure after all callers have taken their older result is not reported.
    started.catch(() => undefined);
    return started;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.allSettled(this.#running.values());
  }
}
