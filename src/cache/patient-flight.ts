import { SpandrelError } from '../core/errors.ts';
import { waitFor } from '../core/wait-for.ts';
import type { Metrics } from '../telemetry/metrics.ts';
import type { Patience } from './patience.ts';
import type { FlightKind } from './single-flight.ts';

/** Beyond this, nobody who has an older answer starts another one. */
const MAX_RUNNING = 256;

/**
 * Work that is done once for all who ask while it runs, and for which those who have an older result wait only so long: they take that,
 * and the work goes on behind. Disposing ends the work.
 */
export class PatientFlight<T> implements AsyncDisposable {
  readonly #running = new Map<string, Promise<T>>();
  readonly #closing = new AbortController();
  readonly #kind: FlightKind;
  readonly #metrics: Metrics;
  readonly #patience: Patience;

  constructor(kind: FlightKind, metrics: Metrics, patience: Patience) {
    this.#kind = kind;
    this.#metrics = metrics;
    this.#patience = patience;
  }

  /** The result of `work`, or of the same key's work under way. `signal` ends this caller's waiting only. */
  run(key: string, work: (signal: AbortSignal) => Promise<T>, signal?: AbortSignal): Promise<T> {
    return waitFor(this.#join(key, work), signal);
  }

  /**
   * As {@link run}, for who has an older result: `undefined` says that it has to do for now.
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
      this.#metrics.singleFlightJoined.inc({ what: this.#kind });
      return running;
    }
    const held = this.#metrics.hold('flight');
    const started = work(this.#closing.signal).finally(() => {
      this.#running.delete(key);
      held[Symbol.dispose]();
    });
    this.#running.set(key, started);
    // Those who took an older result do not hear of its failure.
    started.catch(() => undefined);
    return started;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.#closing.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.allSettled(this.#running.values());
  }
}
