import type { Dice } from '../dice.ts';

/** Numbers at the edges of the types that formats use. */
const EDGES: readonly bigint[] = [
  0n,
  1n,
  2n,
  3n,
  4n,
  7n,
  8n,
  12n,
  16n,
  0x7fn,
  0x80n,
  0xffn,
  0x100n,
  511n,
  512n,
  513n,
  0x7fffn,
  0x8000n,
  0xffffn,
  0x10000n,
  32_768n,
  32_785n,
  2n ** 20n,
  2n ** 27n,
  2n ** 28n,
  2n ** 31n - 1n,
  2n ** 31n,
  2n ** 32n - 8n,
  2n ** 32n - 4n,
  2n ** 32n - 1n,
  2n ** 32n,
  2n ** 53n - 1n,
  2n ** 53n,
  2n ** 53n + 1n,
  2n ** 62n,
  2n ** 63n - 1n,
  2n ** 63n,
  2n ** 64n - 1n,
];

/** An unexpected number: an edge, its neighbour, or its negative. */
export function pickNumber(dice: Dice): bigint {
  const edge = dice.chance(0.8) ? dice.pick(EDGES) : BigInt(dice.skewed(2 ** 40));
  const near = dice.chance(0.2) ? edge + BigInt(dice.between(-3, 3)) : edge;
  return dice.chance(0.15) ? -near : near;
}

/** Writes an interesting number of `width` bytes, wrapped to fit. */
export function writeNumber(
  bytes: Buffer,
  at: number,
  width: 1 | 2 | 4 | 8,
  value: bigint,
  isBig = false,
): void {
  const wrapped = BigInt.asUintN(8 * width, value);
  for (let index = 0; index < width; index++) {
    const place = at + (isBig ? width - 1 - index : index);
    if (place < bytes.length) bytes[place] = Number((wrapped >> BigInt(8 * index)) & 0xffn);
  }
}
