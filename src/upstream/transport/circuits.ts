import { BoundedMap } from '../../cache/bounded-map.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { Events } from '../../telemetry/events.ts';
import { CircuitBreaker, type CircuitOptions, type Passage } from './circuit-breaker.ts';

export interface CircuitsDeps {
  readonly upstream: string;
  readonly options: CircuitOptions;
  readonly events: Events;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
}

/** The registry, its token service and its blob storage. */
const MAX_HOSTS = 64;

/**
 * A circuit breaker for each host that an upstream leads to: if its storage is down, manifests still work.
 */
export class Circuits {
  readonly #deps: CircuitsDeps;
  readonly #now: () => number;
  readonly #breakers = new BoundedMap<CircuitBreaker>({ maxEntries: MAX_HOSTS });

  constructor(deps: CircuitsDeps) {
    this.#deps = deps;
    this.#now = deps.now ?? (() => performance.now());
    this.#tell();
  }

  /**
   * Admits a request to the host of `url`. Its end must be reported. @throws SpandrelError
   * UPSTREAM_UNREACHABLE while the circuit of the host is open
   */
  enter(url: URL): Attempt {
    const breaker = this.#breakers.get(url.origin) ?? new CircuitBreaker(this.#deps.options);
    this.#breakers.set(url.origin, breaker);
    const passage = breaker.enter(this.#now());
    if (passage === 'open') {
      const words =
        `upstream ${this.#deps.upstream}: the host has not been responding; the proxy waits before it ` +
        'tries again';
      throw new SpandrelError('UPSTREAM_UNREACHABLE', words);
    }
    return {
      isProbe: passage === 'probe',
      end: (outcome) => this.#end(breaker, passage, outcome),
    };
  }

  #end(breaker: CircuitBreaker, passage: Passage, outcome: 'answered' | 'failed' | 'left'): void {
    const wasOpen = breaker.isOpen;
    if (outcome === 'answered') breaker.succeed();
    else if (outcome === 'failed') breaker.fail(this.#now());
    else breaker.leave(passage);
    if (breaker.isOpen === wasOpen) return;
    this.#tell(wasOpen ? 'closed' : 'opened');
  }

  #tell(change?: 'opened' | 'closed'): void {
    const open = [...this.#breakers.values()].filter(({ isOpen }) => isOpen).length;
    this.#deps.events.circuitsChanged(this.#deps.upstream, open, change);
  }
}

/** An admitted request. */
export interface Attempt {
  /** It probes whether the host is back, so it is not retried. */
  readonly isProbe: boolean;
  end(outcome: 'answered' | 'failed' | 'left'): void;
}
