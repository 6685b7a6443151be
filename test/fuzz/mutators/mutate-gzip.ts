import { crc32, constants, gzipSync, inflateRawSync } from 'node:zlib';

import { gzipMember } from '../../helpers/layers/gzip-corpus.ts';
import type { Corpus } from '../corpus.ts';
import type { Dice } from '../dice.ts';
import { pickNumber, writeNumber } from './interesting.ts';
import { mutateBytes } from './mutate-bytes.ts';
import { makeTar } from './mutate-tar.ts';

const HEADER_BYTES = 10;
const TRAILER_BYTES = 8;
const MAX_REPAIRED_BYTES = 2 ** 22;
/** Deflate blocks without output: stored ones, and fixed ones of 10 bits. */
const EMPTY_STORED = Buffer.from('000000ffff', 'hex');

/** A gzip layer: a mutated tar in valid gzip, or a damaged stream. */
export function makeGzip(dice: Dice, corpus: Corpus): Buffer {
  const way = dice.below(10);
  if (way < 3) return gzipSync(makeTar(dice, corpus), { level: dice.pick([0, 1, 6]) });
  const seed = dice.pick(corpus.gzips);
  if (way < 5) return mutateBytes(dice, seed, [dice.pick(corpus.gzips)]);
  if (way < 7) return damageDeflate(dice, seed);
  return rewrap(dice, seed, corpus);
}

/** Wrong bits in the deflate data of a member with a matching trailer. */
function damageDeflate(dice: Dice, gzip: Buffer): Buffer {
  const deflate = Buffer.from(gzip.subarray(HEADER_BYTES, -TRAILER_BYTES));
  for (let count = dice.few(4); count > 0; count--) {
    const at = dice.chance(0.5) ? dice.skewed(deflate.length) : dice.below(deflate.length);
    deflate[at] = (deflate[at] ?? 0) ^ (1 << dice.below(8));
  }
  return repaired(deflate, gzip.subarray(0, HEADER_BYTES));
}

function repaired(deflate: Buffer, header: Buffer): Buffer {
  const trailer = Buffer.alloc(TRAILER_BYTES);
  let end = deflate.length;
  try {
    const options = { finishFlush: constants.Z_SYNC_FLUSH, maxOutputLength: MAX_REPAIRED_BYTES, info: true };
    const { buffer, engine } = inflateRawSync(deflate, options) as unknown as {
      buffer: Buffer;
      engine: { bytesWritten: number };
    };
    end = engine.bytesWritten;
    trailer.writeUInt32LE(crc32(buffer), 0);
    trailer.writeUInt32LE(buffer.length, 4);
  } catch {
    // Undecodable: any trailer will do.
  }
  return Buffer.concat([header, deflate.subarray(0, end), trailer]);
}

/** Other headers, more members, empty blocks, bytes after the end. */
function rewrap(dice: Dice, gzip: Buffer, corpus: Corpus): Buffer {
  const mutated = Buffer.from(gzip);
  switch (dice.below(8)) {
    case 0: {
      // Any flags, with arbitrary bytes as their fields.
      mutated[3] = dice.below(256);
      return mutated;
    }
    case 1: {
      const fields = {
        ...(dice.chance(0.5) ? { extra: dice.bytes(dice.skewed(65_535)) } : {}),
        ...(dice.chance(0.5) ? { name: 'n'.repeat(dice.skewed(2000)) } : {}),
        ...(dice.chance(0.5) ? { comment: '\xff'.repeat(dice.skewed(2000)) } : {}),
        headerCrc: dice.chance(0.5),
      };
      const plain = dice.pick(corpus.tars);
      const deflate = gzipSync(plain).subarray(HEADER_BYTES, -TRAILER_BYTES);
      const member = gzipMember(deflate, plain, fields);
      return dice.chance(0.5) ? member : mutateHead(dice, member);
    }
    case 2: {
      const empty = Buffer.concat(Array.from({ length: dice.skewed(3000) }, () => EMPTY_STORED));
      return Buffer.concat([gzip.subarray(0, HEADER_BYTES), empty, gzip.subarray(HEADER_BYTES)]);
    }
    case 3: {
      const members = Array.from({ length: dice.skewed(600) }, () => gzipSync(Buffer.alloc(dice.skewed(40))));
      return Buffer.concat(dice.chance(0.5) ? [...members, gzip] : [gzip, ...members]);
    }
    case 4:
      return Buffer.concat([
        gzip,
        dice.chance(0.5) ? Buffer.alloc(dice.skewed(2000)) : dice.bytes(dice.skewed(40)),
      ]);
    case 5:
      writeNumber(mutated, mutated.length - dice.pick([4, 8]), 4, pickNumber(dice));
      return mutated;
    case 6:
      return Buffer.concat([gzip, dice.pick(corpus.gzips)]);
    default:
      // A high compression ratio.
      return gzipSync(Buffer.alloc(dice.skewed(2 ** 22)), { level: 9 });
  }
}

function mutateHead(dice: Dice, gzip: Buffer): Buffer {
  const end = Math.min(gzip.length, 40);
  return Buffer.concat([mutateBytes(dice, gzip.subarray(0, end)), gzip.subarray(end)]);
}
