import { SingleFlight } from '../cache/single-flight.ts';
import { SpandrelError } from '../core/errors.ts';
import type { Replicas } from '../replicas/replicas.ts';
import type { Events } from '../telemetry/events.ts';
import type { AuthorizedLayer } from './layer.ts';
import type { TarZtoc, TarZtocFiles } from './tar-ztoc-files.ts';

export interface ZtocFlightsDeps {
  readonly files: TarZtocFiles;
  readonly replicas?: Pick<Replicas, 'builds'> | undefined;
  readonly events: Events;
}

/** zTOCs that are made on demand: each is made once for all who wait for it, by one replica, and kept. */
export class ZtocFlights implements AsyncDisposable {
  readonly #files: TarZtocFiles;
  readonly #replicas: ZtocFlightsDeps['replicas'];
  readonly #flights: SingleFlight<TarZtoc>;
  readonly #running = new Set<Promise<unknown>>();
  readonly #stopping = new AbortController();

  constructor({ files, replicas, events }: ZtocFlightsDeps) {
    this.#files = files;
    this.#replicas = replicas;
    this.#flights = new SingleFlight('index', events);
  }

  /** Ends what is being made. */
  get signal(): AbortSignal {
    return this.#stopping.signal;
  }

  /**
   * A stored one, or the one that another replica or `make` makes now. `signal` ends the wait, not the work.
   * @throws SpandrelError STORE_FAILED, STORE_FULL; as `make`
   */
  async ensure(
    layer: AuthorizedLayer,
    spanBytes: number,
    make: () => Promise<TarZtoc>,
    signal: AbortSignal | undefined,
  ): Promise<TarZtoc> {
    const found = await this.#files.find(layer.digest, spanBytes);
    if (found !== undefined) return found;
    const key = `${layer.source.repositoryKey ?? ''} ${layer.digest} ${spanBytes}`;
    return this.#flights.run(key, () => this.#follow(this.#obtain(layer, spanBytes, make)), signal);
  }

  async #obtain(
    { digest }: AuthorizedLayer,
    spanBytes: number,
    build: () => Promise<TarZtoc>,
  ): Promise<TarZtoc> {
    if (this.#replicas === undefined) return build();
    const find = (): Promise<TarZtoc | undefined> => this.#files.find(digest, spanBytes);
    const name = this.#files.sharedKey(digest, spanBytes);
    // Its readers wait for all of it.
    const hurry = new AbortController().signal;
    return this.#replicas.builds.run({ name, isLate: false, find, build, hurry, signal: this.signal });
  }

  async #follow<T>(work: Promise<T>): Promise<T> {
    this.#running.add(work);
    try {
      return await work;
    } finally {
      this.#running.delete(work);
    }
  }

  /** Waiting callers get SHUTTING_DOWN. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new SpandrelError('SHUTTING_DOWN', 'the proxy is being stopped'));
    await Promise.allSettled(this.#running);
  }
}
