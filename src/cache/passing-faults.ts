import { BoundedMap } from './bounded-map.ts';

/** How long to wait after a fault before the next attempt. */
export interface RetryPauses {
  /** After the first fault. Doubles with each further one in a row. With 0 there is no pause. */
  readonly firstMs: number;
  readonly longestMs: number;
}

interface Held<F> {
  readonly fault: F;
  readonly pauseMs: number;
  readonly untilMs: number;
}

const MAX_ENTRIES = 10_000;
/**
 * Longest pause, in first pauses. A lasting fault costs few attempts; the end of a fault is noticed within
 * the time that it lasted.
 */
const LONGEST_PAUSES = 16;

/** Pauses that grow from `firstMs` to 16 times that. */
export function growingPauses(firstMs: number): RetryPauses {
  return { firstMs, longestMs: firstMs * LONGEST_PAUSES };
}

/**
 * Remembers temporary faults by subject, each for a pause that grows while the subject keeps failing. Faults
 * that verified bytes prove are permanent and do not belong here. Losing an entry costs one attempt.
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

  /** The fault of a subject during its pause: do not try it yet. */
  current(subject: string): F | undefined {
    const held = this.#faults.get(subject);
    return held !== undefined && this.#now() < held.untilMs ? held.fault : undefined;
  }

  /** The last fault of a subject since {@link clear}, even if its pause is over. */
  last(subject: string): F | undefined {
    return this.#faults.get(subject)?.fault;
  }

  /** Records that an attempt failed. */
  note(subject: string, fault: F): void {
    const { firstMs, longestMs } = this.#pauses;
    const now = this.#now();
    const before = this.#faults.get(subject);
    const isInRow = before !== undefined && now < before.untilMs + longestMs;
    const pauseMs = isInRow ? Math.min(before.pauseMs * 2, longestMs) : firstMs;
    this.#faults.set(subject, { fault, pauseMs, untilMs: now + pauseMs });
  }

  /** Records that an attempt succeeded. */
  clear(subject: string): void {
    this.#faults.delete(subject);
  }
}
