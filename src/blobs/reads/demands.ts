import type { ByteRange } from '../../core/byte-range.ts';
import { waitFor } from '../../core/wait-for.ts';

/** The range that a reader of a fill still wants. */
export interface Demand extends ByteRange {
  /** Advances with the reader. */
  start: number;
  /** It started as the whole blob. */
  readonly isWhole: boolean;
}

interface Waiting {
  readonly isThere: () => boolean;
  readonly resolve: () => void;
  readonly reject: (error: Error) => void;
}

/** Tracks the readers of a fill, and wakes those that wait for bytes. */
export class Demands {
  readonly #demands = new Set<Demand>();
  readonly #waiting = new Set<Waiting>();

  add(demand: Demand): void {
    this.#demands.add(demand);
  }

  remove(demand: Demand): void {
    this.#demands.delete(demand);
  }

  /** Ranges that are wanted now. */
  wanted(): Iterable<ByteRange> {
    return this.#demands;
  }

  /**
   * Resolves when `isThere` is true at an {@link announce}. @throws the error of {@link fail}; the signal's
   * reason
   */
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

  /** Wakes readers whose next byte has arrived. */
  announce(): void {
    for (const { isThere, resolve } of this.#waiting) if (isThere()) resolve();
  }

  fail(error: Error): void {
    for (const { reject } of this.#waiting) reject(error);
  }
}
