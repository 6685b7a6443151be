import { BoundedMap } from '../../cache/bounded-map.ts';
import { Allowance } from '../../core/work/allowance.ts';
import { SpandrelError } from '../../core/errors.ts';

/** Remembered addresses. A forgotten address starts with a full allowance. */
const MAX_ADDRESSES = 100_000;

/** A token bucket for each client address. Its size is the number of requests a second. */
export class RateLimiter {
  readonly #perSecond: number;
  readonly #nowMs: () => number;
  readonly #allowances = new BoundedMap<Allowance>({ maxEntries: MAX_ADDRESSES });

  constructor(perSecond: number, nowMs: () => number = () => performance.now()) {
    this.#perSecond = perSecond;
    this.#nowMs = nowMs;
  }

  /** Count a request. @throws SpandrelError OVERLOADED if the address has used up its allowance */
  admit(address: string): void {
    let allowance = this.#allowances.get(address);
    if (allowance === undefined) {
      allowance = new Allowance(this.#perSecond);
      this.#allowances.set(address, allowance);
    }
    if (allowance.take(this.#nowMs(), 0) === undefined)
      throw new SpandrelError('OVERLOADED', 'too many requests from this address');
  }
}
