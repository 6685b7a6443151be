import { constants, zstdCompressSync } from 'node:zlib';

import { skippableFrame } from '../../helpers/layers/zstd-corpus.ts';
import type { Corpus } from '../corpus.ts';
import type { Dice } from '../dice.ts';
import { pickNumber, writeNumber } from './interesting.ts';
import { mutateBytes } from './mutate-bytes.ts';
import { makeTar } from './mutate-tar.ts';

const MAGIC = Buffer.from('28b52ffd', 'hex');
const RLE_BLOCK = 1;
const MAX_BLOCK_BYTES = 128 * 1024;

/** A zstd layer: a mutated tar in valid zstd, or damaged or lying frames. */
export function makeZstd(dice: Dice, corpus: Corpus): Buffer {
  const way = dice.below(10);
  if (way < 2)
    return zstdCompressSync(makeTar(dice, corpus), {
      params: { [constants.ZSTD_c_checksumFlag]: dice.below(2) },
    });
  const seed = dice.pick(corpus.zstds);
  if (way < 5) return mutateBytes(dice, seed, [dice.pick(corpus.zstds)]);
  if (way < 7) return mutateFrameHeader(dice, seed);
  return frames(dice, corpus);
}

/** Descriptor, window, dictionary id, content size. */
function mutateFrameHeader(dice: Dice, stream: Buffer): Buffer {
  const mutated = Buffer.from(stream);
  const at = Math.max(0, mutated.indexOf(MAGIC, dice.below(2) * dice.below(mutated.length)));
  for (let count = dice.few(3); count > 0; count--) {
    const place = at + 4 + dice.below(12);
    if (dice.chance(0.5)) writeNumber(mutated, place, 1, BigInt(dice.below(256)));
    else writeNumber(mutated, place, dice.pick([2, 4, 8] as const), pickNumber(dice));
  }
  return mutated;
}

/** A sequence of frames of all kinds, some made by hand. */
function frames(dice: Dice, corpus: Corpus): Buffer {
  const parts = Array.from({ length: dice.few(6) }, (): Uint8Array => {
    switch (dice.below(5)) {
      case 0:
        return mutateSkippable(dice);
      case 1:
        return zstdCompressSync('');
      case 2:
        return handmadeFrame(dice);
      default:
        return dice.pick(corpus.zstds);
    }
  });
  return Buffer.concat(parts);
}

function mutateSkippable(dice: Dice): Uint8Array {
  const frame = Buffer.from(skippableFrame(dice.below(16), dice.skewed(3000)));
  if (dice.chance(0.4)) writeNumber(frame, 4, 4, pickNumber(dice));
  return frame;
}

/** Blocks that repeat one byte yield much output from little input; their sizes may be too large. */
function handmadeFrame(dice: Dice): Buffer {
  const descriptor = dice.chance(0.8) ? 0 : dice.below(256);
  const window = dice.pick([0, 0x50, 0x58, 0x88, 0x89, 0xff]);
  const header = Buffer.concat([MAGIC, Buffer.from([descriptor, window])]);
  const count = dice.few(20);
  const blocks = Array.from({ length: count }, (_, index) => {
    const size = dice.pick([0, 1, 1024, MAX_BLOCK_BYTES, MAX_BLOCK_BYTES + 1, dice.skewed(MAX_BLOCK_BYTES)]);
    const type = dice.chance(0.9) ? RLE_BLOCK : dice.below(4);
    const isLast = index === count - 1 && dice.chance(0.9);
    const block = Buffer.alloc(4);
    writeNumber(block, 0, 4, BigInt((isLast ? 1 : 0) | (type << 1) | (size << 3)));
    block[3] = dice.below(256);
    return block;
  });
  return Buffer.concat([header, ...blocks]);
}
