import { BoundedMap } from '../../cache/bounded-map.ts';
import type { CircuitChange, Events } from '../../telemetry/events.ts';
import { type LeftAlone, leftAlone, untilOf } from './left-alone.ts';
import { CircuitBreaker, type CircuitOptions, type Passage } from '../../core/work/circuit-breaker.ts';

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
      throw leftAlone('UPSTREAM_UNREACHABLE', this.#describe(url.host, breaker));
    }
    return {
      isProbe: passage === 'probe',
      end: (outcome, why) => this.#end({ breaker, passage, host: url.host }, outcome, why),
    };
  }

  #describe(host: string, breaker: CircuitBreaker): LeftAlone {
    const { upstream } = this.#deps;
    const remainingMs = (breaker.openUntilMs ?? 0) - this.#now();
    return { upstream, host, remainingMs, why: `its last request failed: ${breaker.lastFailure}` };
  }

  #end({ breaker, passage, host }: Passing, outcome: Outcome, why = ''): void {
    const wasOpen = breaker.isOpen;
    if (outcome === 'answered') breaker.succeed();
    else if (outcome === 'failed') breaker.fail(this.#now(), why);
    else breaker.leave(passage);
    if (breaker.isOpen === wasOpen) return;
    const { remainingMs } = this.#describe(host, breaker);
    this.#tell(
      wasOpen ? { kind: 'closed', host } : { kind: 'opened', host, why, until: untilOf(remainingMs) },
    );
  }

  #tell(change?: CircuitChange): void {
    const open = [...this.#breakers.values()].filter(({ isOpen }) => isOpen).length;
    this.#deps.events.circuitsChanged(this.#deps.upstream, open, change);
  }
}

type Outcome = 'answered' | 'failed' | 'left';

interface Passing {
  readonly breaker: CircuitBreaker;
  readonly passage: Passage;
  readonly host: string;
}

/** An admitted request. */
export interface Attempt {
  /** It probes whether the host is back, so it is not retried. */
  readonly isProbe: boolean;
  /** @param why what it failed with */
  end(outcome: Outcome, why?: string): void;
}
