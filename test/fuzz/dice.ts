import { createHash } from 'node:crypto';

import { seededRandom } from '../helpers/seeded-random.ts';

/** Names one case for good: the same place gives the same dice on every machine. */
export interface CasePlace {
  readonly seed: number;
  readonly target: string;
  readonly number: number;
}

/** The choices of one fuzz case. */
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

  /** At least 1, each further one half as likely as the one before, at most `most`. */
  few(most: number): number {
    let count = 1;
    while (count < most && this.chance(0.5)) count++;
    return count;
  }

  /** Mostly small, now and then up to `most`. */
  skewed(most: number): number {
    return Math.floor(this.#random() ** 4 * (most + 1));
  }

  bytes(length: number): Buffer {
    return Buffer.alloc(length).map(() => this.below(256)) as Buffer;
  }
}
