import { equal, ok } from 'node:assert/strict';
import { constants, deflateRawSync, zstdDecompressSync } from 'node:zlib';

import { WINDOW_BYTES } from '../../../src/inflate/engine.ts';
import type { Corpus } from '../corpus.ts';
import type { Dice } from '../dice.ts';
import { ENGINES } from '../engines.ts';
import { pickNumber } from '../mutators/interesting.ts';
import { mutateBytes } from '../mutators/mutate-bytes.ts';
import { makeZstd } from '../mutators/mutate-zstd.ts';
import { readZstdFrame } from '../../helpers/layers/read-zstd-frame.ts';
import type { FuzzTarget } from '../target.ts';

const MAX_SPAN_BYTES = 300_000;

export const inflateSpanTarget: FuzzTarget = {
  name: 'inflate-span',
  claim:
    'a span with a wrong window, place, length or data is SPAN_CORRUPT or gives as many bytes as were asked for',
  codes: ['SPAN_CORRUPT'],
  testCases: 2000,
  makeInput: makeSpan,
  read(input, { dice }) {
    const bits = dice.chance(0.5) ? 0 : dice.between(-1, 9);
    const window = pickWindow(dice, input);
    const ratio = dice.pick([1, 3, 30, 1032]);
    const uncompressedLength = dice.chance(0.8)
      ? dice.below(Math.min(MAX_SPAN_BYTES, input.length * ratio + 300))
      : Number(pickNumber(dice));
    // All engines return the same bytes, if any.
    const results = ENGINES.map((engine) => {
      try {
        return engine.inflateSpan({ compressed: input, bits, window, uncompressedLength });
      } catch (error) {
        if (engine === ENGINES.at(-1)) throw error;
        return undefined;
      }
    });
    const [first, ...others] = results;
    equal(first?.length, uncompressedLength);
    for (const other of others)
      ok(other !== undefined && Buffer.from(other).equals(first ?? Buffer.alloc(0)));
  },
};

/** Deflate data from anywhere in a layer, or specially made. */
function makeSpan(dice: Dice, corpus: Corpus): Buffer {
  const gzip = dice.pick(corpus.gzips);
  if (dice.chance(0.4)) {
    const start = dice.chance(0.6) ? 10 : dice.below(gzip.length);
    const part = gzip.subarray(start, start + 1 + dice.skewed(gzip.length));
    return dice.chance(0.5) ? Buffer.from(part) : mutateBytes(dice, part);
  }
  const tar = dice.pick(corpus.tars);
  const start = dice.below(tar.length);
  const dictionary = tar.subarray(Math.max(0, start - WINDOW_BYTES), start);
  const plain = tar.subarray(start, start + dice.skewed(MAX_SPAN_BYTES));
  const deflate = deflateRawSync(plain, dictionary.length === 0 ? {} : { dictionary });
  return dice.chance(0.4) ? deflate : mutateBytes(dice, deflate, [gzip]);
}

function pickWindow(dice: Dice, input: Buffer): Uint8Array {
  const length = dice.chance(0.6)
    ? WINDOW_BYTES
    : dice.pick([0, 1, WINDOW_BYTES - 1, WINDOW_BYTES + 1, 2 * WINDOW_BYTES]);
  const window = new Uint8Array(length);
  window.set(input.subarray(0, length));
  return window;
}

export const zstdSpanTarget: FuzzTarget = {
  name: 'zstd-span',
  claim: 'a range of a damaged or lying zstd stream is SPAN_CORRUPT or gives the bytes that zstd gives',
  codes: ['SPAN_CORRUPT', 'LAYER_UNSUPPORTED', 'OVERLOADED'],
  testCases: 600,
  makeInput: makeZstd,
  async read(input, { dice }) {
    const start = dice.skewed(200_000);
    const range = { start, end: start + dice.skewed(300_000) };
    const compressed = pieces(input, dice.pick([7, 1000, 65_536]));
    const bytes = await readZstdFrame({ compressed, uncompressed: range });
    equal(bytes.length, range.end - range.start);
    const whole = decodeFirstFrames(input);
    if (whole !== undefined && whole.length >= range.end)
      ok(whole.subarray(range.start, range.end).equals(bytes));
  },
};

async function* pieces(bytes: Buffer, pieceBytes: number): AsyncGenerator<Uint8Array, void, void> {
  // Small pieces only for small streams.
  const size = Math.max(pieceBytes, Math.ceil(bytes.length / 200));
  for (let at = 0; at < bytes.length; at += size) yield Buffer.from(bytes.subarray(at, at + size));
}

/** The output of zstd for the start of a stream, if any. */
function decodeFirstFrames(bytes: Buffer): Buffer | undefined {
  try {
    const params = { [constants.ZSTD_d_windowLogMax]: 27 };
    return zstdDecompressSync(bytes, { params, finishFlush: constants.ZSTD_e_flush });
  } catch {
    return undefined;
  }
}
