import type { Dice } from '../dice.ts';
import { pickNumber, writeNumber } from './interesting.ts';

type Mutation = (dice: Dice, bytes: Buffer, others: readonly Buffer[]) => Buffer;

const MAX_PIECE_BYTES = 4096;
/** Limit of growth. */
const MAX_BYTES = 2 ** 20;

/** A copy of `bytes` with some blind changes; may contain pieces of `others`. */
export function mutateBytes(dice: Dice, bytes: Buffer, others: readonly Buffer[] = [bytes]): Buffer {
  let mutated: Buffer = Buffer.from(bytes);
  for (let count = dice.few(6); count > 0; count--) mutated = dice.pick(MUTATIONS)(dice, mutated, others);
  return mutated.length > MAX_BYTES ? mutated.subarray(0, MAX_BYTES) : mutated;
}

const MUTATIONS: readonly Mutation[] = [
  flipBit,
  flipBit,
  setByte,
  setByte,
  setNumber,
  setNumber,
  cutEnd,
  remove,
  duplicate,
  insertOther,
  insertRun,
  overwriteWithOther,
  swap,
];

function flipBit(dice: Dice, bytes: Buffer): Buffer {
  const at = dice.below(bytes.length);
  if (bytes.length > 0) bytes[at] = (bytes[at] ?? 0) ^ (1 << dice.below(8));
  return bytes;
}

function setByte(dice: Dice, bytes: Buffer): Buffer {
  if (bytes.length > 0)
    bytes[dice.below(bytes.length)] = dice.pick([0, 1, 0x20, 0x2f, 0x7f, 0x80, 0xff, dice.below(256)]);
  return bytes;
}

function setNumber(dice: Dice, bytes: Buffer): Buffer {
  writeNumber(
    bytes,
    dice.below(bytes.length),
    dice.pick([1, 2, 4, 8] as const),
    pickNumber(dice),
    dice.chance(0.2),
  );
  return bytes;
}

function cutEnd(dice: Dice, bytes: Buffer): Buffer {
  return bytes.subarray(0, bytes.length - (dice.chance(0.5) ? dice.skewed(bytes.length) : dice.below(9)));
}

function remove(dice: Dice, bytes: Buffer): Buffer {
  const { start, end } = piece(dice, bytes);
  return Buffer.concat([bytes.subarray(0, start), bytes.subarray(end)]);
}

function duplicate(dice: Dice, bytes: Buffer): Buffer {
  const { start, end } = piece(dice, bytes);
  return insert(bytes, dice.chance(0.5) ? end : dice.below(bytes.length + 1), bytes.subarray(start, end));
}

function insertOther(dice: Dice, bytes: Buffer, others: readonly Buffer[]): Buffer {
  const other = dice.pick(others);
  const { start, end } = piece(dice, other);
  return insert(bytes, dice.below(bytes.length + 1), other.subarray(start, end));
}

function insertRun(dice: Dice, bytes: Buffer): Buffer {
  const run = Buffer.alloc(
    dice.skewed(MAX_PIECE_BYTES),
    dice.pick([0, 0x20, 0x2f, 0x30, 0xff, dice.below(256)]),
  );
  return insert(bytes, dice.below(bytes.length + 1), run);
}

function overwriteWithOther(dice: Dice, bytes: Buffer, others: readonly Buffer[]): Buffer {
  const other = dice.pick(others);
  const { start, end } = piece(dice, other);
  other.copy(bytes, dice.chance(0.5) ? Math.min(start, bytes.length) : dice.below(bytes.length), start, end);
  return bytes;
}

function swap(dice: Dice, bytes: Buffer): Buffer {
  const length = dice.skewed(Math.min(MAX_PIECE_BYTES, Math.floor(bytes.length / 2)));
  const [a, b] = [dice.below(bytes.length - length), dice.below(bytes.length - length)];
  const first = Buffer.from(bytes.subarray(a, a + length));
  bytes.copyWithin(a, b, b + length);
  first.copy(bytes, b);
  return bytes;
}

function piece(dice: Dice, bytes: Buffer): { start: number; end: number } {
  const start = dice.below(bytes.length);
  return { start, end: Math.min(bytes.length, start + 1 + dice.skewed(MAX_PIECE_BYTES)) };
}

function insert(bytes: Buffer, at: number, added: Buffer): Buffer {
  return Buffer.concat([bytes.subarray(0, at), added, bytes.subarray(at)]);
}
