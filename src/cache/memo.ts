import type { Metrics } from '../telemetry/metrics.ts';
import { type Bound, BoundedMap } from './bounded-map.ts';
import { type FlightKind, SingleFlight } from './single-flight.ts';

/** What is costly to make, by key: made once for all who ask meanwhile, and kept within a bound. A failure is not kept. */
export class Memo<V extends object> {
  readonly #made: BoundedMap<V>;
  readonly #flights: SingleFlight<V>;
  readonly #isFinal: (value: V) => boolean;

  /** @param isFinal  false for what is not kept, because it may be another the next time */
  constructor(
    kind: FlightKind,
    metrics: Metrics,
    bound: Bound<V>,
    isFinal: (value: V) => boolean = () => true,
  ) {
    this.#isFinal = isFinal;
    this.#made = new BoundedMap(bound);
    this.#flights = new SingleFlight(kind, metrics);
  }

  /** What is known, or what `make` gives. `signal` ends this caller's waiting only. */
  async get(key: string, make: () => Promise<V>, signal?: AbortSignal): Promise<V> {
    const known = this.#made.get(key);
    if (known !== undefined) return known;
    const makeAndKeep = async (): Promise<V> => {
      const made = await make();
      if (this.#isFinal(made)) this.#made.set(key, made);
      return made;
    };
    return this.#flights.run(key, makeAndKeep, signal);
  }
}
