/**
 * A token bucket of requests: so many a second, and as many at once after a pause. Counts in points of time, so that a full
 * one costs nothing to keep.
 */
export class Allowance {
  readonly #intervalMs: number;
  /** When the next request may go; up to a second in the past. */
  #nextMs = -Infinity;

  constructor(perSecond: number) {
    this.#intervalMs = 1000 / perSecond;
  }

  /**
   * Take one request. Returns how long it has to wait, 0 for not at all; `undefined` if that were more than `longestWaitMs`,
   * and nothing is taken then.
   */
  take(nowMs: number, longestWaitMs: number): number | undefined {
    const slotMs = Math.max(this.#nextMs, nowMs - 1000 + this.#intervalMs);
    const waitMs = Math.max(0, Math.round(slotMs - nowMs));
    if (waitMs > longestWaitMs) return undefined;
    this.#nextMs = slotMs + this.#intervalMs;
    return waitMs;
  }
}
