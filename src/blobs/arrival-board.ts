import type { ByteRange } from '../core/byte-range.ts';
import { waitFor } from '../core/wait-for.ts';

interface Waiting {
  readonly range: ByteRange;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Readers of a fill that wait for bytes, each at the start of the range that it still wants. */
export class ArrivalBoard {
  readonly #waiting = new Set<Waiting>();

  /** What is wanted now. */
  *wanted(): Generator<ByteRange, void, undefined> {
    for (const { range } of this.#waiting) yield range;
  }

  /** Resolves when {@link announce} finds the first byte of `range` there. @throws what {@link fail} is given; the signal's reason */
  async wait(range: ByteRange, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = { range, resolve, reject };
    this.#waiting.add(waiting);
    try {
      await waitFor(promise, signal);
    } finally {
      this.#waiting.delete(waiting);
    }
  }

  /** Let those go on whose first byte is there. */
  announce(isThere: (position: number) => boolean): void {
    for (const { range, resolve } of this.#waiting) if (isThere(range.start)) resolve();
  }

  fail(error: Error): void {
    for (const { reject } of this.#waiting) reject(error);
  }
}
