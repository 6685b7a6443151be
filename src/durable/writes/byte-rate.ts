import { setTimeout as sleep } from 'node:timers/promises';

/** Spreads writes so that they take `bytesPerSecond` on average. Stores one point in time. */
export class ByteRate {
  readonly #bytesPerSecond: number;
  #nextMs = 0;

  /** @param bytesPerSecond 0 for no limit */
  constructor(bytesPerSecond: number) {
    this.#bytesPerSecond = bytesPerSecond;
  }

  /** Resolves when `bytes` may be sent. @throws the reason of `signal` */
  async admit(bytes: number, signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === 0) return;
    const nowMs = performance.now();
    const startMs = Math.max(nowMs, this.#nextMs);
    this.#nextMs = startMs + (bytes / this.#bytesPerSecond) * 1000;
    if (startMs <= nowMs) return;
    try {
      await sleep(startMs - nowMs, undefined, { signal, ref: false });
    } catch (error) {
      signal.throwIfAborted();
      throw error;
    }
  }
}
