import { createHash } from 'node:crypto';

const TWO_TO_32 = 2 ** 32;

/**
 * Seeded pseudo-random numbers, the same on every machine: sfc32 (Chris Doty-Humphrey, PractRand), seeded by
 * SHA-256. Not for secrets.
 */
export class Random {
  readonly seed: string;
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  constructor(seed: string) {
    this.seed = seed;
    const state = createHash('sha256').update(seed).digest();
    this.#a = state.readInt32LE(0);
    this.#b = state.readInt32LE(4);
    this.#c = state.readInt32LE(8);
  }

  /** A new stream, which depends only on the seed and `label`, not on numbers drawn before. */
  fork(label: string): Random {
    return new Random(`${this.seed}/${label}`);
  }

  /** 0 to 2^32 - 1. */
  uint32(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = ((this.#c << 21) | (this.#c >>> 11)) + sum;
    this.#c |= 0;
    return sum >>> 0;
  }

  /** At least 0, less than 1. */
  fraction(): number {
    return this.uint32() / TWO_TO_32;
  }

  /** Whole number in `[start, end)`. */
  integer(start: number, end: number): number {
    return start + Math.floor(this.fraction() * (end - start));
  }

  /** One of `values`, which must not be empty. */
  pick<T>(values: readonly T[]): T {
    return values[this.integer(0, values.length)] as T;
  }

  /** Log-normal: half of the values lie below `median`, two thirds within a factor of `e ** sigma` of it. */
  logNormal(median: number, sigma: number): number {
    const radius = Math.sqrt(-2 * Math.log(1 - this.fraction()));
    return median * Math.exp(sigma * radius * Math.cos(2 * Math.PI * this.fraction()));
  }
}
