import { TimeLimit } from '../core/work/time-limit.ts';
import { waitFor } from '../core/wait-for.ts';

/** Of the longest wait, for a subject that has just made somebody wait for nothing. */
const OVERDUE_SHARE = 1 / 8;

/**
 * How long answers are waited for where an older one would do. Who has waited that long for nothing shortens the wait of all others for
 * the same subject, until it answers: an upstream that hangs delays one request, not each.
 */
export class Patience {
  readonly #longestMs: number;
  /** One entry a configured upstream at most. */
  readonly #overdue = new Set<string>();

  constructor(longestMs: number) {
    this.#longestMs = longestMs;
  }

  /**
   * The result of `work`, or `undefined` if that takes too long; the work goes on.
   * @throws what the work throws in time; the reason of the signal
   */
  async wait<T>(subject: string, work: Promise<T>, signal: AbortSignal | undefined): Promise<T | undefined> {
    const limitMs = Math.ceil(this.#longestMs * (this.#overdue.has(subject) ? OVERDUE_SHARE : 1));
    using limit = new TimeLimit(limitMs);
    const answered = (): unknown => this.#overdue.delete(subject);
    work.then(answered, answered);
    try {
      return await waitFor(work, limit.with(signal));
    } catch (error) {
      if (!limit.isOver || error !== limit.signal.reason) throw error;
      this.#overdue.add(subject);
      return undefined;
    }
  }
}
