import { Allowance } from '../core/work/allowance.ts';
import { BoundedMap } from './bounded-map.ts';

export interface KeyedAllowancesOptions {
  /** Requests a second of each key, in bursts of as many. */
  readonly perSecond: number;
  /** A forgotten key starts with a full allowance. */
  readonly maxKeys: number;
  /** Milliseconds of a monotonic clock. */
  readonly nowMs?: (() => number) | undefined;
}

/** An {@link Allowance} for each key, such as an address or a repository. */
export class KeyedAllowances {
  readonly #perSecond: number;
  readonly #nowMs: () => number;
  readonly #allowances: BoundedMap<Allowance>;

  constructor({ perSecond, maxKeys, nowMs = () => performance.now() }: KeyedAllowancesOptions) {
    this.#perSecond = perSecond;
    this.#nowMs = nowMs;
    this.#allowances = new BoundedMap({ maxEntries: maxKeys });
  }

  /** Takes one request of the key. @returns false, and takes nothing, if its allowance is used up */
  take(key: string): boolean {
    let allowance = this.#allowances.get(key);
    if (allowance === undefined) {
      allowance = new Allowance(this.#perSecond);
      this.#allowances.set(key, allowance);
    }
    return allowance.take(this.#nowMs(), 0) !== undefined;
  }
}
