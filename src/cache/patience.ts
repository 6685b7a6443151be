import { TimeLimit } from '../core/work/time-limit.ts';
import { waitFor } from '../core/wait-for.ts';

/** Share of the longest wait that remains for a subject after one wait was in vain. */
const OVERDUE_SHARE = 1 / 8;

/**
 * Bounds how long callers wait for a response when an older one would do. After one caller has waited in
 * vain, others wait for less until the subject responds: a hanging upstream delays one request, not each.
 */
export class Patience {
  readonly #longestMs: number;
  /** At most one entry for each configured upstream. */
  readonly #overdue = new Set<string>();

  constructor(longestMs: number) {
    this.#longestMs = longestMs;
  }

  /** The result of `work`, or `undefined` if that takes too long. The work goes on. */
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
