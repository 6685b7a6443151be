import type { Clock } from './clock.ts';

/** What has not been used for this long may be made up for at once; also covers timers that fire late. */
const BURST_MS = 20;

/**
 * Limits a flow of bytes to a rate. Takers are served in the order of their calls. The average is exact
 * whatever the granularity of the timers: each taker waits for a point of time that is computed from the
 * bytes before it.
 */
export class TokenBucket {
  readonly bytesPerSecond: number;
  readonly #clock: Clock;
  #paidUntilMs = -Infinity;

  constructor(bytesPerSecond: number, clock: Clock) {
    this.bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
  }

  /** Resolves when `bytes` more may flow. They count even if the wait is aborted. */
  async take(bytes: number, signal?: AbortSignal): Promise<void> {
    const now = this.#clock.now();
    const startMs = Math.max(this.#paidUntilMs, now - BURST_MS);
    this.#paidUntilMs = startMs + (bytes / this.bytesPerSecond) * 1000;
    if (this.#paidUntilMs > now) await this.#clock.sleep(this.#paidUntilMs - now, signal);
  }
}
