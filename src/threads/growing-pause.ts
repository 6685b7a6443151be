import { setTimeout as sleep } from 'node:timers/promises';

const FIRST_MS = 100;
const LONGEST_MS = 5_000;

/** A pause after failures: twice as long after each one, five seconds at most. */
export class GrowingPause {
  readonly #now: () => number;
  #nextMs = FIRST_MS;
  #endsAtMs = Number.NEGATIVE_INFINITY;

  /** @param now milliseconds of a monotonic clock */
  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  get remainingMs(): number {
    return Math.max(0, this.#endsAtMs - this.#now());
  }

  /** Starts a pause. Failures during a pause do not extend it: they have the same cause. */
  noteFailure(): void {
    if (this.remainingMs > 0) return;
    this.#endsAtMs = this.#now() + this.#nextMs;
    this.#nextMs = Math.min(LONGEST_MS, 2 * this.#nextMs);
  }

  /** Makes the next pause a short one. */
  noteSuccess(): void {
    this.#nextMs = FIRST_MS;
  }

  /** Resolves at the end of the pause, or at once if there is none. @throws the reason of `signal` */
  async over(signal?: AbortSignal): Promise<void> {
    for (let ms = this.remainingMs; ms > 0; ms = this.remainingMs) {
      await sleep(Math.ceil(ms), undefined, { signal }).catch((error: unknown) => {
        signal?.throwIfAborted();
        throw error;
      });
    }
  }
}
