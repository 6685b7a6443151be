import { buildTable } from './build-table';
import { INVALID } from './entries';
import {
  CODE_LENGTHS,
  DISTANCE_RESULTS,
  DISTANCE_TABLE,
  DISTANCE_TABLE_BITS,
  LITLEN_RESULTS,
  LITLEN_TABLE,
  LITLEN_TABLE_BITS,
  PRECODE_RESULTS,
  PRECODE_SYMBOLS,
  PRECODE_TABLE,
  PRECODE_TABLE_BITS,
} from './layout';
import { bitBuffer, bitCount, drop, pull, take } from './state';
import {
  BAD_CODE_LENGTHS_SET,
  BAD_DISTANCES_SET,
  BAD_LITLEN_SET,
  BAD_REPEAT,
  GOES_ON,
  NEEDS_INPUT,
  NO_END_OF_BLOCK,
  TOO_MANY_SYMBOLS,
} from './status';

// The head of a dynamic block (RFC 1951, section 3.2.7).

/** Order of the lengths of the code length codes in the stream. */
const ORDER: usize = memory.data<u8>([16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15]);

const MAX_LITLENS: i32 = 286;
const MAX_DISTANCES: i32 = 30;
const END_OF_BLOCK_SYMBOL: i32 = 256;
const COPY_PREVIOUS: i32 = 16;
const SHORT_ZEROS: i32 = 17;

// What comes next.
const NUMBERS: i32 = 0;
const PRECODE: i32 = 1;
const LENGTHS: i32 = 2;

let position: i32 = NUMBERS;
let litlens: i32 = 0;
let distances: i32 = 0;
let precodes: i32 = 0;
/** Lengths read so far: first those of the precode, then those of the codes. */
let have: i32 = 0;

export function startCodeLengths(): void {
  position = NUMBERS;
}

/** Reads the head of the block as far as the input goes; builds the tables when it is complete. */
export function readCodeLengths(): i32 {
  if (position == NUMBERS) {
    if (!pull(14)) return NEEDS_INPUT;
    litlens = take(5) + 257;
    distances = take(5) + 1;
    precodes = take(4) + 4;
    if (litlens > MAX_LITLENS || distances > MAX_DISTANCES) return TOO_MANY_SYMBOLS;
    memory.fill(CODE_LENGTHS, 0, PRECODE_SYMBOLS);
    have = 0;
    position = PRECODE;
  }
  if (position == PRECODE) {
    for (; have < precodes; have++) {
      if (!pull(3)) return NEEDS_INPUT;
      store<u8>(CODE_LENGTHS + load<u8>(ORDER + have), take(3));
    }
    if (!buildPrecodeTable()) return BAD_CODE_LENGTHS_SET;
    have = 0;
    position = LENGTHS;
  }
  while (have < litlens + distances) {
    const status = readCodeLength();
    if (status != GOES_ON) return status;
  }
  return buildTables();
}

function buildPrecodeTable(): bool {
  return buildTable(
    PRECODE_TABLE,
    PRECODE_TABLE_BITS,
    CODE_LENGTHS,
    PRECODE_SYMBOLS,
    PRECODE_RESULTS,
    true,
    // Without any code, zlib reads a zero length from each bit, and finds later that the end code is missing.
    0,
  );
}

/** Reads one symbol of the precode: a length, or a repetition. */
function readCodeLength(): i32 {
  let entry: u32;
  while (true) {
    entry = load<u32>(PRECODE_TABLE + (((<i32>bitBuffer) & ((1 << PRECODE_TABLE_BITS) - 1)) << 2));
    if (<i32>(entry & 63) <= bitCount) break;
    if (!pull(bitCount + 1)) return NEEDS_INPUT;
  }
  const codeBits = <i32>(entry & 63);
  const symbol = <i32>(entry >> 16);
  if (symbol < COPY_PREVIOUS) {
    drop(codeBits);
    store<u8>(CODE_LENGTHS + have++, symbol);
    return GOES_ON;
  }
  const extraBits = symbol == COPY_PREVIOUS ? 2 : symbol == SHORT_ZEROS ? 3 : 7;
  if (!pull(codeBits + extraBits)) return NEEDS_INPUT;
  drop(codeBits);
  const repeats = take(extraBits) + (extraBits == 7 ? 11 : 3);
  let length: u8 = 0;
  if (symbol == COPY_PREVIOUS) {
    if (have == 0) return BAD_REPEAT;
    length = load<u8>(CODE_LENGTHS + have - 1);
  }
  if (have + repeats > litlens + distances) return BAD_REPEAT;
  memory.fill(CODE_LENGTHS + have, length, repeats);
  have += repeats;
  return GOES_ON;
}

function buildTables(): i32 {
  if (load<u8>(CODE_LENGTHS + END_OF_BLOCK_SYMBOL) == 0) return NO_END_OF_BLOCK;
  if (!buildTable(LITLEN_TABLE, LITLEN_TABLE_BITS, CODE_LENGTHS, litlens, LITLEN_RESULTS, false, INVALID)) {
    return BAD_LITLEN_SET;
  }
  const built = buildTable(
    DISTANCE_TABLE,
    DISTANCE_TABLE_BITS,
    CODE_LENGTHS + litlens,
    distances,
    DISTANCE_RESULTS,
    false,
    INVALID,
  );
  return built ? GOES_ON : BAD_DISTANCES_SET;
}
