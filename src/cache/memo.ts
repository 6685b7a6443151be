import type { Events } from '../telemetry/events.ts';
import type { FlightKind } from '../telemetry/metrics.ts';
import { type Bound, BoundedMap } from './bounded-map.ts';
import { PassingFaults, type RetryPauses } from './passing-faults.ts';
import { SingleFlight } from './single-flight.ts';

/** Which values are temporary, and how long a {@link Memo} keeps them. */
export interface Passing<V> {
  readonly isFinal: (value: V) => boolean;
  readonly pauses: RetryPauses;
}

/**
 * Caches values that are costly to make, by key. Concurrent callers share one attempt. A failure is not kept,
 * and a value that is not final is kept for a pause only.
 */
export class Memo<V extends object> {
  readonly #made: BoundedMap<V>;
  readonly #flights: SingleFlight<V>;
  readonly #isFinal: (value: V) => boolean;
  readonly #passing: PassingFaults<V> | undefined;

  constructor(kind: FlightKind, events: Events, bound: Bound<V>, passing?: Passing<V>) {
    this.#isFinal = passing?.isFinal ?? (() => true);
    this.#passing = passing && new PassingFaults(passing.pauses);
    this.#made = new BoundedMap(bound);
    this.#flights = new SingleFlight(kind, events);
  }

  /** Returns the cached value, or makes it. `signal` ends the wait of this caller only. */
  async get(key: string, make: () => Promise<V>, signal?: AbortSignal): Promise<V> {
    const known = this.#made.get(key) ?? this.#passing?.current(key);
    if (known !== undefined) return known;
    const makeAndKeep = async (): Promise<V> => {
      const made = await make();
      if (this.#isFinal(made)) {
        this.#made.set(key, made);
        this.#passing?.clear(key);
      } else this.#passing?.note(key, made);
      return made;
    };
    return this.#flights.run(key, makeAndKeep, signal);
  }
}
