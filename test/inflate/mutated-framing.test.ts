import { deflateRawSync } from 'node:zlib';

import { expect, it } from 'vitest';

import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { wasmEngine } from '../../src/inflate/wasm-engine.ts';
import { recordInflation } from '../helpers/layers/checkpoint-recorder.ts';
import { gzipMember, randomFrom, seededBytes, seededText } from '../helpers/layers/gzip-corpus.ts';
import { problemOf } from './deflate-agreement.ts';

const CASES = 1500;
const FIRST_SEED = 5000;

type Random = () => number;

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}

/** One to three small members with all kinds of headers. */
function randomMembers(random: Random): Buffer {
  const members = Array.from({ length: 1 + below(random, 3) }, () => {
    const plain = seededText(below(random, 1e6), below(random, 60));
    return gzipMember(deflateRawSync(plain), plain, {
      ...(random() < 0.4 ? { extra: seededBytes(below(random, 1e6), below(random, 40)) } : {}),
      ...(random() < 0.4 ? { name: 'n'.repeat(below(random, 20)) } : {}),
      ...(random() < 0.4 ? { comment: 'c'.repeat(below(random, 20)) } : {}),
      headerCrc: random() < 0.5,
    });
  });
  return Buffer.concat(members);
}

function damage(stream: Buffer, random: Random): Buffer {
  const damaged = Buffer.from(stream);
  const at = below(random, stream.length);
  // Most damage goes to the fields at the beginning and to the flags.
  if (random() < 0.5) damaged[below(random, 12)] = below(random, 256);
  else damaged[at] = (damaged[at] ?? 0) ^ (1 << below(random, 8));
  if (random() < 0.2) return damaged.subarray(0, at);
  if (random() < 0.1) return Buffer.concat([damaged, seededBytes(below(random, 1e6), below(random, 20))]);
  return damaged;
}

it(`the engines agree about damaged headers and trailers (seeds from ${FIRST_SEED})`, () => {
  const problems = new Set<string>();
  for (let seed = FIRST_SEED; seed < FIRST_SEED + CASES; seed++) {
    const random = randomFrom(seed);
    const stream = damage(randomMembers(random), random);
    const chunkBytes = 1 + below(random, 200);
    const [wasm, pako] = [wasmEngine, pakoEngine].map((engine) => {
      const { failure, boundaries, output } = recordInflation(engine, stream, Infinity, chunkBytes);
      return { boundaries, output: Buffer.from(output).toString('latin1'), problem: problemOf(failure) };
    });
    expect(wasm, `seed ${seed}`).toEqual(pako);
    problems.add(wasm?.problem ?? '');
  }
  expect([...problems].toSorted()).toEqual(
    expect.arrayContaining(['', 'incorrect data check', 'it is cut short']),
  );
  expect(problems.size).toBeGreaterThan(10);
});
