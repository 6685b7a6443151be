import { createHash } from 'node:crypto';

import { expect, it } from 'vitest';

import { OutputHashes } from '../../src/ztoc/output-hash.ts';
import { randomFrom, seededBytes } from '../helpers/gzip-corpus.ts';

const SEED = 20_263;
const LARGE_LAYER = 2 ** 30;

function* pieces(seed: number, count: number): Generator<Uint8Array> {
  const random = randomFrom(seed);
  const bytes = seededBytes(seed, 3 * 2 ** 20);
  for (let piece = 0; piece < count; piece++) {
    const start = Math.floor(random() * bytes.length);
    yield bytes.slice(start, start + Math.floor(random() * (piece % 10 === 0 ? 3 * 2 ** 20 : 40_000)));
  }
}

it.each([0, 2 ** 30])(
  `gives the digest of all output of a layer of %i bytes (seed ${SEED})`,
  async (layerBytes) => {
    const hashes = new OutputHashes();
    for (const count of [0, 1, 60]) {
      using hash = hashes.begin(layerBytes);
      const expected = createHash('sha256');
      for (const piece of pieces(SEED + count, count)) {
        hash.update(piece);
        expected.update(piece);
        // Whoever decodes uses its buffer again.
        piece.fill(0xee);
      }
      expect(await hash.digest()).toBe(`sha256:${expected.digest('hex')}`);
    }
  },
);

it('is not disturbed by a layer that was given up', async () => {
  const hashes = new OutputHashes();
  for (const piece of [Buffer.from('a'), Buffer.alloc(2 ** 21, 'b')]) {
    using abandoned = hashes.begin(LARGE_LAYER);
    abandoned.update(piece);
  }
  using hash = hashes.begin(LARGE_LAYER);
  hash.update(Buffer.from('c'));
  expect(await hash.digest()).toBe(`sha256:${createHash('sha256').update('c').digest('hex')}`);
});
