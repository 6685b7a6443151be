import { gzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { inflateSpanWith } from '../../src/inflate/span-stream.ts';
import { recordInflation } from '../helpers/layers/checkpoint-recorder.ts';
import { chunksOf, seededText } from '../helpers/layers/gzip-corpus.ts';

const plain = seededText(61, 200_000);

describe('inflateSpanWith', () => {
  it.each([
    ['one member', gzipSync(plain, { memLevel: 1 })],
    ['many members', Buffer.concat(chunksOf(plain, 3000).map((part) => gzipSync(part)))],
  ])('inflateSpanWith never needs the slow decoder for exact spans of %s', (_what, compressed) => {
    const { checkpoints } = recordInflation(pakoEngine, compressed, 10_000, 4096);
    expect(checkpoints.length).toBeGreaterThan(10);
    checkpoints.forEach(({ compressedOffset, bits, uncompressedOffset, window }, index) => {
      const end = checkpoints[index + 1];
      const input = {
        compressed: compressed.subarray(compressedOffset - (bits === 0 ? 0 : 1), end?.compressedOffset),
        bits,
        window,
        uncompressedLength: (end?.uncompressedOffset ?? plain.length) - uncompressedOffset,
      };
      const output = inflateSpanWith(input, () => expect.fail(`span ${index} was left to the slow decoder`));
      const expected = plain.subarray(uncompressedOffset, uncompressedOffset + input.uncompressedLength);
      expect(Buffer.compare(output, expected)).toBe(0);
    });
  });

  it('inflateSpanWith lets the slow decoder start at a whole byte if bytes follow the span', () => {
    const compressed = gzipSync(plain, { memLevel: 1 });
    const { checkpoints } = recordInflation(pakoEngine, compressed, 10_000, 4096);
    const start = checkpoints.find(({ bits }) => bits === 5);
    if (start === undefined) throw new Error('no checkpoint with 5 bits');
    const input = {
      compressed: compressed.subarray(start.compressedOffset - 1),
      bits: start.bits,
      window: start.window,
      uncompressedLength: 500,
    };
    const answer = new Uint8Array(500);
    const output = inflateSpanWith(input, ({ deflate, uncompressedLength }) => {
      expect(uncompressedLength).toBe(500);
      expect(Buffer.from(deflate).subarray(-100).equals(compressed.subarray(-100))).toBe(true);
      return answer;
    });
    expect(output).toBe(answer);
  });
});
