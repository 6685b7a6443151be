import { KeyedAllowances } from '../../cache/keyed-allowances.ts';
import { SpandrelError } from '../../core/errors.ts';

/** Remembered addresses. A forgotten address starts with a full allowance. */
const MAX_ADDRESSES = 100_000;

/** A token bucket for each client address. Its size is the number of requests a second. */
export class RateLimiter {
  readonly #allowances: KeyedAllowances;

  constructor(perSecond: number, nowMs?: () => number) {
    this.#allowances = new KeyedAllowances({ perSecond, maxKeys: MAX_ADDRESSES, nowMs });
  }

  /** Count a request. @throws SpandrelError OVERLOADED if the address has used up its allowance */
  admit(address: string): void {
    if (!this.#allowances.take(address))
      throw new SpandrelError('OVERLOADED', 'too many requests from this address');
  }
}
