import { setTimeout as sleep } from 'node:timers/promises';

/** Time as {@link ByteRate} sees it. */
export interface RateClock {
  /** Milliseconds of a clock that only goes forward. */
  now(): number;
  /** @throws the reason of `signal` */
  sleep(ms: number, signal: AbortSignal): Promise<void>;
}

const CLOCK: RateClock = {
  now: () => performance.now(),
  async sleep(ms, signal) {
    try {
      await sleep(ms, undefined, { signal, ref: false });
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  },
};

/** Spreads writes so that they take `bytesPerSecond` on average. Stores one point in time. */
export class ByteRate {
  readonly #bytesPerSecond: number;
  readonly #clock: RateClock;
  #nextMs = 0;

  /** @param bytesPerSecond 0 for no limit */
  constructor(bytesPerSecond: number, clock = CLOCK) {
    this.#bytesPerSecond = bytesPerSecond;
    this.#clock = clock;
  }

  /** Resolves when `bytes` may be sent. @throws the reason of `signal` */
  async admit(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === 0) return;
    const nowMs = this.#clock.now();
    const startMs = Math.max(nowMs, this.#nextMs);
    this.#nextMs = startMs + (bytes / this.#bytesPerSecond) * 1000;
    if (startMs > nowMs) await this.#clock.sleep(startMs - nowMs, signal);
  }
}
