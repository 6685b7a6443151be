import { gzipSync } from 'node:zlib';

import { expect, it } from 'vitest';

import { wasmEngine } from '../../src/inflate/wasm-engine.ts';
import { recordInflation } from '../helpers/layers/checkpoint-recorder.ts';
import { randomFrom, seededBytes } from '../helpers/layers/gzip-corpus.ts';

const SEED = 20_262;
/** Lengths where the kernel starts folding, where it folds in blocks, and the rest of a vector. */
const BOUNDARIES = [16, 3248, 6496, 6496 + 3744, 3248 + 6992, 3248 + 2 * 6992, 32_768, 65_535];

// The recorder compares the CRC-32 of each piece with that of node:zlib; the trailer covers the whole output.
it(`the kernel computes the CRC-32 of pieces of any length (seed ${SEED})`, () => {
  const random = randomFrom(SEED);
  const lengths = [0, 1, 15, ...BOUNDARIES.flatMap((at) => [at - 17, at - 16, at - 1, at, at + 1, at + 16])];
  for (let round = 0; round < 200; round++) lengths.push(Math.floor(random() * 70_000));
  for (const length of lengths.filter((bytes) => bytes >= 0)) {
    const plain = seededBytes(SEED + length, length);
    const { output, failure } = recordInflation(wasmEngine, gzipSync(plain, { level: 0 }), Infinity, 2 ** 20);
    expect(failure, `${length} bytes`).toBeUndefined();
    expect(Buffer.compare(output, plain)).toBe(0);
  }
});
