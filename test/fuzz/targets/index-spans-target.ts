import { ok } from 'node:assert/strict';
import { gunzipSync } from 'node:zlib';

import { isSpandrelError } from '../../../src/core/errors.ts';
import { LayerIndex } from '../../../src/index/layer-index.ts';
import type { ReadSpan } from '../../../src/ztoc/span.ts';
import { inflateSpans } from '../../../src/spans/span-worker.ts';
import type { Corpus } from '../corpus.ts';
import { decodeUpToFault } from '../decode-up-to-fault.ts';
import type { Dice } from '../dice.ts';
import { pickNumber, writeNumber } from '../mutators/interesting.ts';
import type { FuzzTarget } from '../target.ts';
import { makeIndexFile } from './index-file-target.ts';

const MAX_RUNS = 6;
const LENGTH_BYTES = 4;

export const indexSpansTarget: FuzzTarget = {
  name: 'index-spans',
  claim: 'what a layer is read by with a damaged index is INDEX_MALFORMED, SPAN_CORRUPT, or the right bytes',
  codes: ['INDEX_MALFORMED'],
  testCases: 1500,
  makeInput: makeIndexedLayer,
  async read(input, { dice }) {
    const layerBytes = input.readUInt32LE(input.length - LENGTH_BYTES);
    const layer = input.subarray(0, layerBytes);
    const index = LayerIndex.fromBytes(input.subarray(layerBytes, -LENGTH_BYTES));
    if (index.compression !== 'gzip') return;
    const spans = await index.readSpans({ start: 0, end: Number.POSITIVE_INFINITY });
    const plain = await decode(layer);
    for (let count = spans.length === 0 ? 0 : MAX_RUNS; count > 0; count--) {
      const first = dice.below(spans.length);
      await checkRun(index, layer, plain, spans.slice(first, first + 1 + dice.few(3)));
    }
  },
};

/** Up to the first failure. */
async function decode(layer: Buffer): Promise<Buffer> {
  try {
    return gunzipSync(layer);
  } catch {
    return decodeUpToFault(layer, 'gzip');
  }
}

async function checkRun(
  index: LayerIndex,
  layer: Buffer,
  plain: Buffer,
  spans: readonly ReadSpan[],
): Promise<void> {
  const [first] = spans;
  if (first === undefined) return;
  try {
    const compressed = layer.subarray(first.compressed.start, spans.at(-1)?.compressed.end);
    const { value } = inflateSpans({
      engine: 'wasm',
      spans,
      compressed,
      bits: first.bits,
      window: index.window(first),
    });
    const { start } = first.uncompressed;
    const bytes = Buffer.concat(value);
    const expected = plain.subarray(start, start + bytes.length);
    ok(expected.equals(bytes.subarray(0, expected.length)), `wrong bytes from ${start} on`);
  } catch (error) {
    if (!isSpandrelError(error, 'INDEX_MALFORMED', 'SPAN_CORRUPT')) throw error;
  }
}

/** A layer, a damaged index of it, and the length of the layer. */
function makeIndexedLayer(dice: Dice, corpus: Corpus): Buffer {
  const { layer, indexFile } = dice.pick(corpus.indexedLayers);
  const index = Buffer.from(indexFile);
  // Windows have separate checksums in the footer.
  if (dice.chance(0.3)) writeNumber(index, dice.below(Math.max(1, index.length - 8)), 4, pickNumber(dice));
  const length = Buffer.alloc(LENGTH_BYTES);
  length.writeUInt32LE(layer.length);
  return Buffer.concat([layer, dice.chance(0.2) ? index : makeIndexFile(dice, index, corpus), length]);
}
