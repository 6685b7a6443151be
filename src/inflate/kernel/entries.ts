import {
  DISTANCE_RESULTS,
  DISTANCE_SYMBOLS,
  LITLEN_RESULTS,
  LITLEN_SYMBOLS,
  PRECODE_RESULTS,
  PRECODE_SYMBOLS,
} from './layout';

// A table entry is 32 bits:
//   0..5    bits of input that the entry consumes: the code and its extra bits
//   8..12   bits of the code alone, plus HEADROOM; in a link, bits that index the secondary table
//   13..15  EXCEPTIONAL and its kinds
//   16..30  value: literal, least distance, or index of a secondary table
//   16..24  for a length: the least length; 25..29: the mask of its extra bits
//   31      LITERAL
export const LITERAL: u32 = 0x8000_0000;
export const EXCEPTIONAL: u32 = 0x8000;
export const LINK: u32 = 0x4000;
export const END_OF_BLOCK: u32 = 0x2000;
/**
 * The fast loop keeps this many bits below the next one, so that a table index is an address without a shift.
 */
export const HEADROOM: u32 = 2;
const NO_CODE_BITS: u32 = HEADROOM << 8;
/** A code without a symbol, or a symbol that must not occur. */
export const INVALID: u32 = EXCEPTIONAL | NO_CODE_BITS;
/**
 * One bit of code in both counts: an entry is the result of its symbol plus this times the bits of its code.
 */
export const ONE_CODE_BIT: u32 = 0x0101;

const FIRST_LENGTH: i32 = 257;
const LAST_LENGTH: i32 = 285;
const DISTANCES: i32 = 30;

/**
 * Length codes (RFC 1951, section 3.2.5): eight without extra bits, then groups of four, each with one more
 * bit.
 */
function lengthResult(code: i32): u32 {
  if (code < 8) return ((3 + code) << 16) | NO_CODE_BITS;
  const extraBits = (code >> 2) - 1;
  const least = ((4 + (code & 3)) << extraBits) + 3;
  const mask = (1 << extraBits) - 1;
  return (mask << 25) | (least << 16) | NO_CODE_BITS | extraBits;
}

/** Distance codes: four without extra bits, then groups of two. */
function distanceResult(code: i32): u32 {
  if (code < 4) return ((1 + code) << 16) | NO_CODE_BITS;
  const extraBits = (code >> 1) - 1;
  const least = ((2 + (code & 1)) << extraBits) + 1;
  return (least << 16) | NO_CODE_BITS | extraBits;
}

/** Writes the common part of the entries of each symbol. Call once per instance. */
export function prepareResults(): void {
  for (let symbol = 0; symbol < LITLEN_SYMBOLS; symbol++) {
    let result: u32 = INVALID;
    if (symbol < 256) result = LITERAL | (symbol << 16) | NO_CODE_BITS;
    else if (symbol == 256) result = EXCEPTIONAL | END_OF_BLOCK | NO_CODE_BITS;
    else if (symbol < LAST_LENGTH) result = lengthResult(symbol - FIRST_LENGTH);
    else if (symbol == LAST_LENGTH) result = (258 << 16) | NO_CODE_BITS;
    store<u32>(LITLEN_RESULTS + (symbol << 2), result);
  }
  for (let symbol = 0; symbol < DISTANCE_SYMBOLS; symbol++) {
    const result: u32 = symbol < DISTANCES ? distanceResult(symbol) : INVALID;
    store<u32>(DISTANCE_RESULTS + (symbol << 2), result);
  }
  for (let symbol = 0; symbol < PRECODE_SYMBOLS; symbol++) {
    store<u32>(PRECODE_RESULTS + (symbol << 2), symbol << 16);
  }
}
