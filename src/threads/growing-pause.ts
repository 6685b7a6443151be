import { setTimeout as sleep } from 'node:timers/promises';

const FIRST_MS = 100;
const LONGEST_MS = 5_000;

/** How long to leave alone what keeps failing: twice as long after each failure, five seconds at most. */
export class GrowingPause {
  readonly #now: () => number;
  #nextMs = FIRST_MS;
  #endsAtMs = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds of a clock that never goes back */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get remainingMs(): number {
    return Math.max(0, this.#endsAtMs - this.#now());
  }

  /** Failures during a pause have the cause that it was made for: they make it no longer. */
  noteFailure(): void {
    if (this.remainingMs > 0) return;
    this.#endsAtMs = this.#now() + this.#nextMs;
    this.#nextMs = Math.min(LONGEST_MS, 2 * this.#nextMs);
  }

  /** The next failure is the first one. */
  noteSuccess(): void {
    this.#nextMs = FIRST_MS;
  }

  /** Resolves at the end of the pause; at once outside of one. @throws the reason of `signal` */
  async over(signal?: AbortSignal): Promise<void> {
    for (let ms = this.remainingMs; ms > 0; ms = this.remainingMs) {
      await sleep(Math.ceil(ms), undefined, { signal }).catch((error: unknown) => {
        signal?.throwIfAborted();
        throw error;
      });
    }
  }
}
