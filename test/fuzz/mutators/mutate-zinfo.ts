import { WINDOW_BYTES } from '../../../src/inflate/engine.ts';
import type { Dice } from '../dice.ts';
import { pickNumber, writeNumber } from './interesting.ts';

const HEADER_BYTES = 12;
const CHECKPOINT_BYTES = 17 + WINDOW_BYTES;

/** A copy of a gzip zinfo with another header or count, or with checkpoints out of order. */
export function mutateGzipZinfo(dice: Dice, zinfo: Buffer): Buffer {
  let mutated: Buffer = Buffer.from(zinfo);
  const stored = Math.floor((zinfo.length - HEADER_BYTES) / CHECKPOINT_BYTES);
  for (let count = dice.few(4); count > 0; count--) {
    const at = HEADER_BYTES + CHECKPOINT_BYTES * dice.below(stored);
    switch (dice.below(6)) {
      case 0:
        writeNumber(mutated, dice.pick([0, 4]), dice.pick([4, 8] as const), pickNumber(dice));
        break;
      case 1:
        writeNumber(mutated, 0, 4, BigInt(stored + dice.between(-1, 1)));
        break;
      case 2:
        writeNumber(mutated, at + dice.pick([0, 8]), 8, pickNumber(dice));
        break;
      case 3:
        writeNumber(mutated, at + 16, 1, BigInt(dice.below(256)));
        break;
      case 4:
        // One checkpoint less, or one twice.
        mutated = Buffer.concat([
          mutated.subarray(0, at),
          mutated.subarray(dice.chance(0.5) ? at + CHECKPOINT_BYTES : Math.max(0, at - CHECKPOINT_BYTES)),
        ]);
        break;
      default:
        mutated = mutated.subarray(0, Math.max(0, mutated.length - dice.below(40)));
    }
  }
  return mutated;
}
