import { TAR_BLOCK_BYTES } from '../../../src/tar/tar-header.ts';
import type { Corpus } from '../corpus.ts';
import type { Dice } from '../dice.ts';
import { mutateBytes } from './mutate-bytes.ts';
import { makeExtension } from './tar-extensions.ts';
import { isTarHeader, repairChecksum, writeTarNumber } from './tar-fields.ts';

const NUMBERS = [
  [100, 8],
  [108, 8],
  [116, 8],
  [124, 12],
  [136, 12],
  [329, 8],
  [337, 8],
  [345, 12],
  [357, 12],
  [476, 12],
  [483, 12],
] as const;
const SIZE = [124, 12] as const;
const TEXTS = [
  [0, 100],
  [157, 100],
  [265, 32],
  [297, 32],
  [345, 155],
] as const;
const MAGICS = ['ustar\u000000', 'ustar  \0', 'ustar\0\0\0', '\0\0\0\0\0\0\0\0', 'ustar 00'];
const TYPEFLAGS = [
  '0',
  '1',
  '2',
  '3',
  '4',
  '5',
  '6',
  '7',
  'x',
  'g',
  'L',
  'K',
  'S',
  'V',
  'M',
  '\0',
  'Z',
  '\xff',
  ' ',
];
const MAX_TAR_BYTES = 400_000;

/** A tar with odd headers and right checksums, extensions before entries, and misplaced blocks. */
export function makeTar(dice: Dice, corpus: Corpus): Buffer {
  let tar: Buffer = Buffer.from(dice.pick(corpus.tars));
  for (let count = dice.few(6); count > 0; count--) tar = mutateOnce(dice, tar, corpus);
  return tar.subarray(0, MAX_TAR_BYTES);
}

function mutateOnce(dice: Dice, tar: Buffer, corpus: Corpus): Buffer {
  const header = pickHeader(dice, tar);
  switch (dice.below(12)) {
    case 0:
      return mutateBytes(dice, tar, [dice.pick(corpus.tars)]);
    case 1: {
      const at = TAR_BLOCK_BYTES * dice.below(Math.ceil(tar.length / TAR_BLOCK_BYTES));
      const end = at + TAR_BLOCK_BYTES * dice.few(4);
      return Buffer.concat([
        tar.subarray(0, at),
        dice.chance(0.5) ? Buffer.alloc(0) : tar.subarray(0, end),
        tar.subarray(end),
      ]);
    }
    case 2: {
      const zeros = Buffer.alloc(TAR_BLOCK_BYTES * dice.few(3));
      return insertAt(tar, header ?? 0, zeros);
    }
    case 3:
    case 4:
    case 5:
      return insertAt(tar, header ?? 0, makeExtension(dice));
    case 6: {
      const end = dice.below(tar.length + 1);
      return tar.subarray(0, dice.chance(0.5) ? end : end - (end % TAR_BLOCK_BYTES));
    }
    default:
      if (header !== undefined) mutateHeader(dice, tar.subarray(header, header + TAR_BLOCK_BYTES));
      return tar;
  }
}

function mutateHeader(dice: Dice, block: Buffer): void {
  switch (dice.below(6)) {
    case 0:
      block.write(dice.pick(TYPEFLAGS), 156, 'latin1');
      break;
    case 1:
      block.write(dice.pick(MAGICS), 257, 'latin1');
      break;
    case 2: {
      const [at, length] = dice.pick(TEXTS);
      const text = dice.pick([
        '',
        '/',
        '../'.repeat(33),
        'x'.repeat(100),
        '\xff\xfe',
        `.wh.${'a'.repeat(90)}`,
      ]);
      block.fill(0, at, at + length);
      block.write(text, at, length, 'latin1');
      break;
    }
    case 3:
      block[dice.below(TAR_BLOCK_BYTES)] = dice.below(256);
      break;
    default: {
      const [at, length] = dice.chance(0.5) ? SIZE : dice.pick(NUMBERS);
      writeTarNumber(dice, block.subarray(at, at + length));
    }
  }
  if (dice.chance(0.97)) repairChecksum(block);
}

function pickHeader(dice: Dice, tar: Buffer): number | undefined {
  for (let tries = 0; tries < 20; tries++) {
    const at = TAR_BLOCK_BYTES * dice.below(Math.floor(tar.length / TAR_BLOCK_BYTES));
    if (isTarHeader(tar.subarray(at, at + TAR_BLOCK_BYTES))) return at;
  }
  return undefined;
}

function insertAt(tar: Buffer, at: number, added: Buffer): Buffer {
  return Buffer.concat([tar.subarray(0, at), added, tar.subarray(at)]);
}
