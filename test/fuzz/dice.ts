import { createHash } from 'node:crypto';

import { seededRandom } from '../helpers/seeded-random.ts';

/** Identifies a case: equal places give equal dice on every machine. */
export interface CasePlace {
  readonly seed: number;
  readonly target: string;
  readonly number: number;
}

/** The random choices of one fuzz case. */
export class Dice {
  readonly #random: () => number;

  constructor({ seed, target, number }: CasePlace) {
    const hash = createHash('sha256').update(`${seed}/${target}/${number}`).digest();
    this.#random = seededRandom(hash.readUInt32LE());
  }

  /** A whole number in [0, limit); 0 for a limit of 0. */
  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** A whole number in [low, high]. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  chance(probability: number): boolean {
    return this.#random() < probability;
  }

  /** @param list not empty */
  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }

  /** From 1 to `most`, each number half as likely as the one before. */
  few(most: number): number {
    let count = 1;
    while (count < most && this.chance(0.5)) count++;
    return count;
  }

  /** Mostly small, sometimes up to `most`. */
  skewed(most: number): number {
    return Math.floor(this.#random() ** 4 * (most + 1));
  }

  bytes(length: number): Buffer {
    return Buffer.alloc(length).map(() => this.below(256)) as Buffer;
  }
}
