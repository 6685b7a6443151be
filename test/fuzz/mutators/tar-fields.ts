import { TAR_BLOCK_BYTES } from '../../../src/tar/tar-header.ts';
import type { Dice } from '../dice.ts';
import { pickNumber, writeNumber } from './interesting.ts';

const CHECKSUM = { start: 148, end: 156 } as const;

/** True if the block's checksum is right. */
export function isTarHeader(block: Buffer): boolean {
  if (block.length !== TAR_BLOCK_BYTES || block[0] === 0) return false;
  return Number.parseInt(block.toString('latin1', CHECKSUM.start, CHECKSUM.end), 8) === checksum(block);
}

export function repairChecksum(block: Buffer): void {
  block.write(`${checksum(block).toString(8).padStart(6, '0')}\0 `, CHECKSUM.start, 'latin1');
}

function checksum(block: Buffer): number {
  let sum = 0x20 * (CHECKSUM.end - CHECKSUM.start);
  for (const [at, byte] of block.entries()) if (at < CHECKSUM.start || at >= CHECKSUM.end) sum += byte;
  return sum;
}

/** Fills a numeric field with anything from a small number to nonsense, in any encoding. */
export function writeTarNumber(dice: Dice, field: Buffer): void {
  const width = field.length;
  switch (dice.below(6)) {
    case 0:
      // Base 256, positive or negative, up to more than 64 bits.
      field.fill(dice.pick([0, 0xff]));
      writeNumber(field, width - 8, 8, pickNumber(dice), true);
      field[0] = dice.pick([0x80, 0xff, 0xc0, 0xbf]);
      break;
    case 1:
      field.write(dice.pick(['7', '0', ' ', '\0', '8', '-', 'x']).repeat(width), 'latin1');
      break;
    case 2:
      field.write(`${' '.repeat(dice.below(width))}${dice.below(8)}\0 junk        `, 0, width, 'latin1');
      break;
    case 3:
      field.write(
        dice
          .below(2 ** 20)
          .toString(8)
          .padStart(width - 1, '0'),
        0,
        width,
        'latin1',
      );
      break;
    default: {
      const octal = dice.pick([0, 1, 511, 512, 513, 1024, 4096, 100_000, 8 ** 7 - 1]).toString(8);
      field.fill(0);
      field.write(octal.padStart(width - 1, '0').slice(-width), 0, width, 'latin1');
    }
  }
}
