import type { ByteRange } from '../../core/byte-range.ts';
import { waitFor } from '../../core/wait-for.ts';

/** A reader of a fill: the range that it still wants. */
export interface Demand extends ByteRange {
  /** Moves on while the reader does. */
  start: number;
  /** It began as all of the blob. */
  readonly isWhole: boolean;
}

interface Waiting {
  readonly isThere: () => boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** The readers of a fill, and which of them wait for bytes. */
export class Demands {
  readonly #demands = new Set<Demand>();
  readonly #waiting = new Set<Waiting>();

  add(demand: Demand): void {
    this.#demands.add(demand);
  }

  remove(demand: Demand): void {
    this.#demands.delete(demand);
  }

  /** What is wanted now. */
  wanted(): Iterable<ByteRange> {
    return this.#demands;
  }

  /** Resolves when {@link announce} finds that `isThere`. @throws what {@link fail} is given; the signal's reason */
  async wait(isThere: () => boolean, signal: AbortSignal | undefined): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const waiting = { isThere, resolve, reject };
    this.#waiting.add(waiting);
    try {
      await waitFor(promise, signal);
    } finally {
      this.#waiting.delete(waiting);
    }
  }

  /** Let those go on whose next byte is there. */
  announce(): void {
    for (const { isThere, resolve } of this.#waiting) if (isThere()) resolve();
  }

  fail(error: Error): void {
    for (const { reject } of this.#waiting) reject(error);
  }
}
