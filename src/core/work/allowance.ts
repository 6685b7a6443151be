/**
 * A token bucket: `perSecond` requests a second, in bursts of at most one second's worth. It stores one point
 * in time, so it needs no timer.
 */
export class Allowance {
  readonly #intervalMs: number;
  /** When the next request may start; up to a second in the past. */
  #nextMs = -Infinity;

  constructor(perSecond: number) {
    this.#intervalMs = 1000 / perSecond;
  }

  /**
   * Takes one request and returns how long it must wait, in ms. Takes nothing and returns `undefined` if the
   * wait would exceed `longestWaitMs`.
   * @param sharers how many take from the rate now; each has an equal part of it
   */
  take(nowMs: number, longestWaitMs: number, sharers = 1): number | undefined {
    const intervalMs = this.#intervalMs * sharers;
    // A part of less than one request a second has no burst, but an idle one does not wait either.
    const slotMs = Math.max(this.#nextMs, nowMs - Math.max(0, 1000 - intervalMs));
    const waitMs = Math.max(0, Math.round(slotMs - nowMs));
    if (waitMs > longestWaitMs) return undefined;
    this.#nextMs = slotMs + intervalMs;
    return waitMs;
  }
}
