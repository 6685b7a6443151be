import { crc32 } from 'node:zlib';

import { expect, it } from 'vitest';

import { combineCrc32 } from '../../src/inflate/combine-crc32.ts';
import { seededText } from '../helpers/layers/gzip-corpus.ts';

const SEED = 20_261;
const bytes = seededText(SEED, 70_000);

it.each([0, 1, 2, 255, 256, 4095, 32_768, 65_537, 70_000])(
  `combineCrc32 gives the CRC-32 of %i bytes and the bytes after them (seed ${SEED})`,
  (firstBytes) => {
    const [first, second] = [bytes.subarray(0, firstBytes), bytes.subarray(firstBytes)];
    expect(combineCrc32(crc32(first), crc32(second), second.length)).toBe(crc32(bytes));
  },
);

it('combineCrc32 is right if the first piece has the CRC-32 of an empty one', () => {
  const zeroSum = Buffer.from('9d0ad96d', 'hex');
  expect(crc32(zeroSum)).toBe(0);
  expect(combineCrc32(0, crc32(bytes), bytes.length)).toBe(crc32(Buffer.concat([zeroSum, bytes])));
});

it('combineCrc32 accepts pieces longer than 4 GiB', () => {
  const half = 2 ** 31 + 5;
  const whole = combineCrc32(combineCrc32(0x12345678, 0, half), 0, half);
  expect(combineCrc32(0x12345678, 0, 2 * half)).toBe(whole);
});
