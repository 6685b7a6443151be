import { deflateRawSync, inflateRawSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { type Engine, WINDOW_BYTES } from '../../src/inflate/engine.ts';
import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { wasmEngine } from '../../src/inflate/wasm-engine.ts';
import { recordInflation } from '../helpers/layers/checkpoint-recorder.ts';
import { gzipCorpus, gzipMember, seededText } from '../helpers/layers/gzip-corpus.ts';

const SEED = 31_337;
const corpus = await gzipCorpus(SEED);

/** For each byte of the window: whether Node's zlib reads it to decode `deflate`. */
function usedByZlib(deflate: Uint8Array): boolean[] {
  const decode = (byteAt: (place: number) => number): Buffer =>
    inflateRawSync(deflate, { dictionary: Uint8Array.from({ length: WINDOW_BYTES }, (_, at) => byteAt(at)) });
  const [zeros, ones] = [decode(() => 0), decode(() => 255)];
  // In a window of numbers, each byte of output tells where it came from.
  const [low, high] = [decode((place) => place & 255), decode((place) => place >> 8)];
  const used = Array.from({ length: WINDOW_BYTES }, () => false);
  for (let at = 0; at < zeros.length; at++) {
    if (zeros[at] !== ones[at]) used[(low[at] ?? 0) + 256 * (high[at] ?? 0)] = true;
  }
  return used;
}

describe.each<[string, Engine]>([
  ['wasm', wasmEngine],
  ['pako', pakoEngine],
])('with the %s engine', (_name, engine) => {
  it.each(corpus)('used windows decode every span of $name', ({ compressed, plain }) => {
    for (const spanBytes of [0, 5000, 40_000, 65_536]) {
      for (const chunkBytes of [333, compressed.length]) {
        const { checkpoints } = recordInflation(engine, compressed, spanBytes, chunkBytes);
        for (const [
          index,
          { bits, compressedOffset, uncompressedOffset, usedWindow },
        ] of checkpoints.entries()) {
          const end = checkpoints[index + 1]?.uncompressedOffset ?? plain.length;
          const output = engine.inflateSpan({
            compressed: compressed.subarray(compressedOffset - (bits === 0 ? 0 : 1)),
            bits,
            window: usedWindow,
            uncompressedLength: end - uncompressedOffset,
          });
          const wanted = plain.subarray(uncompressedOffset, end);
          expect(Buffer.compare(output, wanted), `seed ${SEED}, span ${index} of ${spanBytes}`).toBe(0);
        }
      }
    }
  });
});

describe('with the WebAssembly engine', () => {
  it('used windows have bytes of the window and zeros, and spans that refer to nothing have none', () => {
    for (const { name, compressed } of corpus) {
      for (const { window, usedWindow } of recordInflation(wasmEngine, compressed, 40_000, 10_000)
        .checkpoints) {
        const wrong = usedWindow.findIndex((byte, at) => byte !== 0 && byte !== window[at]);
        expect(wrong, `seed ${SEED}, ${name}`).toBe(-1);
      }
      const isStored =
        name === 'level 0' || name === 'incompressible bytes' || name === 'Huffman codes alone';
      const kept = recordInflation(wasmEngine, compressed, 40_000, 10_000).checkpoints.map(
        (c) => c.usedWindow.length,
      );
      if (isStored) expect(Math.max(...kept), name).toBe(0);
    }
  });

  it.each([1, 6, 9])('used windows have exactly the bytes that zlib reads from them at level %i', (level) => {
    const window = seededText(SEED, WINDOW_BYTES);
    const rest = seededText(SEED, 2 * WINDOW_BYTES).subarray(10_000);
    const deflate = deflateRawSync(rest, { level, dictionary: window });
    const stored = Buffer.from('000080ff7f', 'hex');
    const plain = Buffer.concat([window, rest]);
    const compressed = gzipMember(Buffer.concat([stored, window, deflate]), plain);
    const { checkpoints } = recordInflation(wasmEngine, compressed, 20_000, 1000);
    const used = checkpoints.find(
      ({ uncompressedOffset }) => uncompressedOffset === WINDOW_BYTES,
    )?.usedWindow;
    const expected = usedByZlib(deflate).map((isUsed, at) => (isUsed ? window[at] : 0));
    expect(expected.filter((byte) => byte !== 0).length).toBeGreaterThan(1000);
    expect([...(used ?? [])]).toEqual(expected);
  });
});
