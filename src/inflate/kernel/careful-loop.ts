import { END_OF_BLOCK, EXCEPTIONAL, HEADROOM, LINK, LITERAL } from './entries';
import { copyMatch } from './copy-match';
import { decodeFast, decodeTracked } from './fast-loop';
import {
  DISTANCE_TABLE,
  DISTANCE_TABLE_BITS,
  LITLEN_TABLE,
  LITLEN_TABLE_BITS,
  OUTPUT_LIMIT,
  WINDOW_BYTES,
} from './layout';
import {
  bitBuffer,
  bitCount,
  drop,
  inputEnd,
  inputNext,
  outputBase,
  outputNext,
  pull,
  setOutput,
  spanStart,
} from './state';
import {
  BAD_DISTANCE_CODE,
  BAD_LITLEN_CODE,
  BLOCK_END,
  DISTANCE_TOO_FAR,
  NEEDS_INPUT,
  OUTPUT_FULL,
} from './status';
import { noteWindowUse } from './window-use';

/** With less input, starting the fast loop does not pay. */
const FAST_INPUT_BYTES: i32 = 24;

/** Decodes literals and matches up to the end of the block; returns BLOCK_END for the last block too. */
export function decodeSymbols(): i32 {
  while (true) {
    if (outputNext > OUTPUT_LIMIT) return OUTPUT_FULL;
    if (inputEnd - inputNext >= FAST_INPUT_BYTES && decodeQuickly()) return BLOCK_END;
    const status = decodeSymbol();
    if (status >= 0) return status;
  }
}

/** Only the first 32 KiB of a span can refer to output before it. */
function decodeQuickly(): bool {
  const trackedEnd = spanStart + WINDOW_BYTES;
  return outputNext < trackedEnd ? decodeTracked(min(trackedEnd, OUTPUT_LIMIT)) : decodeFast(OUTPUT_LIMIT);
}

/**
 * Decodes one literal or match; consumes its bits only if all of them are there. Negative if decoding
 * continues.
 */
function decodeSymbol(): i32 {
  let entry: u32;
  let codeBits: i32;
  while (true) {
    entry = load<u32>(LITLEN_TABLE + (((<i32>bitBuffer) & ((1 << LITLEN_TABLE_BITS) - 1)) << 2));
    codeBits = 0;
    if (isLink(entry)) {
      codeBits = LITLEN_TABLE_BITS;
      entry = followLink(LITLEN_TABLE, entry, bitBuffer >> LITLEN_TABLE_BITS);
    }
    codeBits += codeBitsOf(entry);
    if (codeBits <= bitCount) break;
    if (!pull(bitCount + 1)) return NEEDS_INPUT;
  }
  if (<i32>entry < 0) {
    store<u8>(outputNext, entry >> 16);
    setOutput(outputNext + 1);
    drop(codeBits);
    return -1;
  }
  if (entry & EXCEPTIONAL) {
    if (!(entry & END_OF_BLOCK)) return BAD_LITLEN_CODE;
    drop(codeBits);
    return BLOCK_END;
  }
  const lengthExtraBits = extraBitsOf(entry);
  if (!pull(codeBits + lengthExtraBits)) return NEEDS_INPUT;
  const length = (valueOf(entry) & 511) + ((<i32>(bitBuffer >> codeBits)) & ((1 << lengthExtraBits) - 1));
  return decodeDistance(length, codeBits + lengthExtraBits);
}

/** Decodes the distance of a match, which starts `skipped` bits into the buffer. */
function decodeDistance(length: i32, skipped: i32): i32 {
  let entry: u32;
  let codeEnd: i32;
  while (true) {
    const bits = bitBuffer >> skipped;
    entry = load<u32>(DISTANCE_TABLE + (((<i32>bits) & ((1 << DISTANCE_TABLE_BITS) - 1)) << 2));
    codeEnd = skipped;
    if (isLink(entry)) {
      codeEnd += DISTANCE_TABLE_BITS;
      entry = followLink(DISTANCE_TABLE, entry, bits >> DISTANCE_TABLE_BITS);
    }
    codeEnd += codeBitsOf(entry);
    if (codeEnd <= bitCount) break;
    if (!pull(bitCount + 1)) return NEEDS_INPUT;
  }
  if (entry & EXCEPTIONAL) return BAD_DISTANCE_CODE;
  const extraBits = extraBitsOf(entry);
  if (!pull(codeEnd + extraBits)) return NEEDS_INPUT;
  const distance = valueOf(entry) + ((<i32>(bitBuffer >> codeEnd)) & ((1 << extraBits) - 1));
  if (distance > outputNext - outputBase) return DISTANCE_TOO_FAR;
  drop(codeEnd + extraBits);
  if (distance > outputNext - spanStart) noteWindowUse(outputNext, distance, length);
  copyMatch(outputNext, distance, length);
  setOutput(outputNext + length);
  return -1;
}

function isLink(entry: u32): bool {
  return (entry & (LITERAL | EXCEPTIONAL | LINK)) == (EXCEPTIONAL | LINK);
}

/** @param bits the bits after those that index the primary table */
function followLink(table: i32, link: u32, bits: u64): u32 {
  const index = valueOf(link) + ((<i32>bits) & ((1 << ((link >> 8) & 15)) - 1));
  return load<u32>(table + (index << 2));
}

function codeBitsOf(entry: u32): i32 {
  return <i32>((entry >> 8) & 31) - HEADROOM;
}

function extraBitsOf(entry: u32): i32 {
  return (entry & 63) - codeBitsOf(entry);
}

function valueOf(entry: u32): i32 {
  return entry >> 16;
}
