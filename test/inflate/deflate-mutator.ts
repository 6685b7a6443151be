import { constants, deflateRawSync, type ZlibOptions } from 'node:zlib';

import { DeflateWriter } from '../helpers/layers/deflate-writer.ts';
import { seededBytes, seededText } from '../helpers/layers/gzip-corpus.ts';

type Random = () => number;

const OPTIONS: readonly ZlibOptions[] = [
  { level: 9 },
  { level: 1 },
  { level: 0 },
  { memLevel: 1 },
  { strategy: constants.Z_FIXED },
  { strategy: constants.Z_HUFFMAN_ONLY },
  { strategy: constants.Z_RLE },
];
const MAX_CODE_BITS = 15;

/** Intact raw deflate data of one to three blocks. */
export function randomDeflate(random: Random): Buffer {
  const plain = Buffer.concat([
    seededText(below(random, 1e6), below(random, 4000)),
    Buffer.alloc(below(random, 600), seededBytes(below(random, 1e6), 1 + below(random, 20))),
    seededText(below(random, 3), below(random, 2000)),
  ]);
  if (random() < 0.3) return withRandomCodes(random);
  const part = deflateRawSync(plain, {
    ...OPTIONS[below(random, OPTIONS.length)],
    finishFlush: constants.Z_SYNC_FLUSH,
  });
  const end = random() < 0.5 ? withRandomCodes(random) : Buffer.from('0300', 'hex');
  return Buffer.concat([part, end]);
}

/** Raw deflate data with up to four kinds of damage. */
export function mutate(deflate: Buffer, random: Random): Buffer {
  let bytes = deflate;
  for (let count = below(random, 5); count > 0; count--) bytes = mutateOnce(bytes, random);
  return bytes;
}

function mutateOnce(bytes: Buffer, random: Random): Buffer {
  const changed = Buffer.from(bytes);
  const at = place(bytes.length, random);
  const length = 1 + below(random, 1 + below(random, 40));
  switch (below(random, 7)) {
    case 0:
    case 1:
      changed[at] = (changed[at] ?? 0) ^ (1 << below(random, 8));
      return changed;
    case 2:
      changed[at] = below(random, 256);
      return changed;
    case 3:
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
    case 4:
      return Buffer.concat([
        bytes.subarray(0, at),
        seededBytes(below(random, 1e6), length),
        bytes.subarray(at),
      ]);
    case 5: {
      const from = place(bytes.length, random);
      return Buffer.concat([bytes.subarray(0, at), bytes.subarray(from)]);
    }
    default:
      return changed.subarray(0, at);
  }
}

/** Half of the positions are near the beginning, where the codes of a block are. */
function place(length: number, random: Random): number {
  return below(random, random() < 0.5 ? Math.min(100, length) : length);
}

/**
 * A dynamic block with codes of any shape, most of them complete, followed by random bits: short and long
 * codes, excessive distances, end codes anywhere.
 */
function withRandomCodes(random: Random): Buffer {
  const litlen = randomCode(257 + below(random, 30), 256, random);
  const distance = randomCode(1 + below(random, 30), 0, random);
  const block = new DeflateWriter().dynamic({ litlen, distance }).text(random() < 0.5 ? 'abcdefgh' : '');
  for (const byte of seededBytes(below(random, 1e6), 20 + below(random, 400))) block.number(byte, 8);
  return block.end().bytes();
}

/** Lengths of a code that is nearly always complete and includes `needed`. */
function randomCode(symbols: number, needed: number, random: Random): number[] {
  const leaves = [1, 1];
  const wanted = 2 + below(random, symbols - 1);
  const isDeep = random() < 0.3;
  while (leaves.length < wanted) {
    // Splitting the last split code makes long codes; splitting any code makes even ones.
    const at = isDeep && random() < 0.6 ? leaves.length - 1 : below(random, leaves.length);
    const bits = leaves[at] ?? 1;
    if (bits === MAX_CODE_BITS) {
      if (leaves.every((leaf) => leaf === MAX_CODE_BITS)) break;
      leaves.sort((a, b) => b - a);
      leaves.reverse();
      leaves.push(...leaves.splice(0, 1));
      continue;
    }
    leaves[at] = bits + 1;
    leaves.push(bits + 1);
  }
  const lengths = Array.from({ length: symbols }, () => 0);
  const free = Array.from({ length: symbols }, (_, symbol) => symbol).filter((symbol) => symbol !== needed);
  lengths[needed] = leaves.pop() ?? 0;
  for (const bits of leaves) {
    const [symbol] = free.splice(below(random, free.length), 1);
    if (symbol !== undefined) lengths[symbol] = bits;
  }
  if (random() < 0.1) lengths[below(random, symbols)] = below(random, 16);
  return lengths;
}

function below(random: Random, limit: number): number {
  return Math.floor(random() * limit);
}
