import { BoundedMap } from './bounded-map.ts';

/** How long to wait before something that failed is tried again. */
export interface RetryPauses {
  /** After the first fault; it doubles with each further one in a row. 0 never waits. */
  readonly firstMs: number;
  readonly longestMs: number;
}

interface Held<F> {
  readonly fault: F;
  readonly pauseMs: number;
  readonly untilMs: number;
}

const MAX_ENTRIES = 10_000;
/** Of the first pause: a fault that lasts costs few attempts, and one that ends is noticed within the time that it has lasted. */
const LONGEST_PAUSES = 16;

/** Pauses that begin with `firstMs`. */
export function growingPauses(firstMs: number): RetryPauses {
  return { firstMs, longestMs: firstMs * LONGEST_PAUSES };
}

/**
 * Faults that may pass, by subject, each held for a pause that grows while the subject keeps failing. Nothing is held for good: a fault
 * that verified bytes prove does not belong here. Forgetting one costs an attempt.
 */
export class PassingFaults<F extends object> {
  readonly #faults = new BoundedMap<Held<F>>({ maxEntries: MAX_ENTRIES });
  readonly #pauses: RetryPauses;
  readonly #now: () => number;

  /** @param now milliseconds of a clock that only goes forward */
  constructor(pauses: RetryPauses, now: () => number = () => performance.now()) {
    this.#pauses = pauses;
    this.#now = now;
  }

  /** The fault of a subject that is not to be tried yet. */
  current(subject: string): F | undefined {
    const held = this.#faults.get(subject);
    return held !== undefined && this.#now() < held.untilMs ? held.fault : undefined;
  }

  /** The last fault of a subject that has not been cleared, even if its pause is over. */
  last(subject: string): F | undefined {
    return this.#faults.get(subject)?.fault;
  }

  /** The subject was tried and failed. */
  note(subject: string, fault: F): void {
    const { firstMs, longestMs } = this.#pauses;
    const now = this.#now();
    const before = this.#faults.get(subject);
    const isInRow = before !== undefined && now < before.untilMs + longestMs;
    const pauseMs = isInRow ? Math.min(before.pauseMs * 2, longestMs) : firstMs;
    this.#faults.set(subject, { fault, pauseMs, untilMs: now + pauseMs });
  }

  /** The subject was tried and did not fail. */
  clear(subject: string): void {
    this.#faults.delete(subject);
  }
}
