import { BoundedMap } from '../cache/bounded-map.ts';
import { SpandrelError } from '../core/errors.ts';

/** Addresses that are remembered; a forgotten one starts with a full allowance. */
const MAX_ADDRESSES = 100_000;

interface Allowance {
  requests: number;
  updatedAtMs: number;
}

/** A token bucket for each client address: so many requests a second, and as many at once. */
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
    const nowMs = this.#nowMs();
    const allowance = this.#allowances.get(address) ?? { requests: this.#perSecond, updatedAtMs: nowMs };
    const refill = ((nowMs - allowance.updatedAtMs) / 1000) * this.#perSecond;
    allowance.requests = Math.min(this.#perSecond, allowance.requests + refill);
    allowance.updatedAtMs = nowMs;
    this.#allowances.set(address, allowance);
    if (allowance.requests < 1) throw new SpandrelError('OVERLOADED', 'too many requests from this address');
    allowance.requests -= 1;
  }
}
