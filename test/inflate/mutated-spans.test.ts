import { expect, it } from 'vitest';

import { isSpandrelError } from '../../src/core/errors.ts';
import type { Engine, SpanInput } from '../../src/inflate/engine.ts';
import { pakoEngine } from '../../src/inflate/pako-engine.ts';
import { wasmEngine } from '../../src/inflate/wasm-engine.ts';
import { recordInflation } from '../helpers/layers/checkpoint-recorder.ts';
import { gzipCorpus, randomFrom } from '../helpers/layers/gzip-corpus.ts';

const SEED = 7_001;
const CASES_PER_SAMPLE = 60;
const MAX_COMPRESSED_BYTES = 80_000;
const MAX_PLAIN_BYTES = 300_000;

function outcome(engine: Engine, input: SpanInput): string {
  try {
    return Buffer.from(engine.inflateSpan(input)).toString('latin1');
  } catch (error) {
    if (isSpandrelError(error, 'SPAN_CORRUPT')) return error.code;
    throw error;
  }
}

it(`the engines agree about damaged and cut spans, and bytes after them (seed ${SEED})`, async () => {
  const random = randomFrom(SEED);
  const below = (limit: number): number => Math.floor(random() * limit);
  for (const { name, compressed, plain } of await gzipCorpus(SEED)) {
    if (compressed.length > MAX_COMPRESSED_BYTES || plain.length > MAX_PLAIN_BYTES) continue;
    const { checkpoints } = recordInflation(pakoEngine, compressed, 20_000, 4096);
    for (let round = 0; round < CASES_PER_SAMPLE; round++) {
      const index = below(checkpoints.length);
      const [start, end] = [checkpoints[index], checkpoints[index + 1]];
      if (start === undefined) continue;
      const compressedStart = start.compressedOffset - (start.bits === 0 ? 0 : 1);
      const compressedEnd = random() < 0.5 ? end?.compressedOffset : undefined;
      const bytes = new Uint8Array(compressed.subarray(compressedStart, compressedEnd));
      for (let flips = below(3); flips > 0; flips--) {
        const at = below(bytes.length);
        bytes[at] = (bytes[at] ?? 0) ^ (1 << below(8));
      }
      const length = (end?.uncompressedOffset ?? plain.length) - start.uncompressedOffset;
      const input = {
        compressed: random() < 0.2 ? bytes.subarray(0, below(bytes.length)) : bytes,
        bits: start.bits,
        window: start.window,
        uncompressedLength: length + (random() < 0.2 ? below(100) : 0),
      };
      const [wasm, pako] = [outcome(wasmEngine, input), outcome(pakoEngine, input)];
      expect(wasm === pako, `${name}, span ${index}, round ${round}`).toBe(true);
    }
  }
});
