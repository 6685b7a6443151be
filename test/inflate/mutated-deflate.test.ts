import { expect, it } from 'vitest';

import { randomFrom } from '../helpers/layers/gzip-corpus.ts';
import { expectAgreement } from './deflate-agreement.ts';
import { mutate, randomDeflate } from './deflate-mutator.ts';

/**
 * `INFLATE_FUZZ_CASES=1000000 npx vitest run test/inflate/mutated-deflate.test.ts` runs longer;
 * `INFLATE_FUZZ_SEED` sets the first seed.
 */
const CASES = Number(process.env.INFLATE_FUZZ_CASES ?? 600);
const FIRST_SEED = Number(process.env.INFLATE_FUZZ_SEED ?? 1);
const BATCHES = 4;

it.each(Array.from({ length: BATCHES }, (_, batch) => FIRST_SEED + batch * Math.ceil(CASES / BATCHES)))(
  'the engines agree with node:zlib about mutated deflate data (seeds from %i)',
  (firstSeed) => {
    const verdicts = new Map<string, number>();
    for (let seed = firstSeed; seed < firstSeed + CASES / BATCHES; seed++) {
      const random = randomFrom(seed);
      const deflate = mutate(randomDeflate(random), random);
      const chunkBytes = 1 + Math.floor(random() ** 3 * 5000);
      const verdict = expectAgreement(deflate, chunkBytes, `seed ${seed}, chunks of ${chunkBytes}`);
      verdicts.set(verdict, (verdicts.get(verdict) ?? 0) + 1);
    }
    // The mutations reach all parts of the format.
    expect(verdicts.size, JSON.stringify([...verdicts])).toBeGreaterThan(8);
  },
  24 * 3600 * 1000,
);
