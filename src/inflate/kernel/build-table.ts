import { EXCEPTIONAL, INVALID, LINK, ONE_CODE_BIT } from './entries';
import { COUNTS, MAX_CODE_BITS, OFFSETS, SORTED_SYMBOLS } from './layout';

/**
 * Builds the decoding table at `table` for the code whose lengths are the bytes at `lengths` (RFC 1951,
 * section 3.2.2). Returns false for codes that zlib refuses (`inftrees.c`): over-subscribed and incomplete
 * ones. Allowed are no code at all and, unless `mustBeComplete`, a single code of one bit.
 * @param results the common part of the entries of each symbol
 * @param ofNothing the entry for every bit if there are no codes
 */
export function buildTable(
  table: i32,
  tableBits: i32,
  lengths: i32,
  symbols: i32,
  results: i32,
  mustBeComplete: bool,
  ofNothing: u32,
): bool {
  const maxBits = countLengths(lengths, symbols);
  if (maxBits == 0) {
    fill(table, 1 << tableBits, ofNothing + ONE_CODE_BIT);
    return true;
  }
  let left: i32 = 1;
  for (let bits = 1; bits <= MAX_CODE_BITS; bits++) {
    left = (left << 1) - load<i32>(COUNTS + (bits << 2));
    if (left < 0) return false;
  }
  if (left > 0 && (mustBeComplete || maxBits != 1)) return false;
  sortSymbols(lengths, symbols);
  // The second code of one bit has no symbol, unless filling overwrites it.
  store<u32>(table + 4, INVALID + ONE_CODE_BIT);
  fillTable(table, tableBits, maxBits, results);
  return true;
}

/** Counts the codes of each length. @returns the greatest length */
function countLengths(lengths: i32, symbols: i32): i32 {
  memory.fill(COUNTS, 0, 4 * (MAX_CODE_BITS + 1));
  for (let symbol = 0; symbol < symbols; symbol++) {
    const count = COUNTS + (load<u8>(lengths + symbol) << 2);
    store<i32>(count, load<i32>(count) + 1);
  }
  let maxBits = MAX_CODE_BITS;
  while (maxBits > 0 && load<i32>(COUNTS + (maxBits << 2)) == 0) maxBits--;
  return maxBits;
}

/** Sorts the symbols that have a code by length and then by number, which is the order of their codes. */
function sortSymbols(lengths: i32, symbols: i32): void {
  let offset: i32 = 0;
  store<i32>(COUNTS, 0);
  for (let bits = 1; bits <= MAX_CODE_BITS; bits++) {
    store<i32>(OFFSETS + (bits << 2), offset);
    offset += load<i32>(COUNTS + (bits << 2));
  }
  for (let symbol = 0; symbol < symbols; symbol++) {
    const bits: i32 = load<u8>(lengths + symbol);
    if (bits == 0) continue;
    const next = OFFSETS + (bits << 2);
    const place = load<i32>(next);
    store<i32>(next, place + 1);
    store<u16>(SORTED_SYMBOLS + (place << 1), symbol);
  }
}

function fillTable(table: i32, tableBits: i32, maxBits: i32, results: i32): void {
  // Codes are stored from their highest bit on, so the index of a code is the code reversed.
  let code: i32 = 0;
  let sorted = SORTED_SYMBOLS;
  let filledBits: i32 = 1;
  const primaryBits = min(maxBits, tableBits);
  for (let bits: i32 = 1; bits <= primaryBits; bits++) {
    // The entries of shorter codes repeat in a table twice as large.
    if (bits > filledBits) {
      memory.copy(table + (4 << filledBits), table, 4 << filledBits);
      filledBits = bits;
    }
    for (let rest = load<i32>(COUNTS + (bits << 2)); rest > 0; rest--) {
      store<u32>(table + (code << 2), entryOf(sorted, results, bits));
      sorted += 2;
      code = nextCode(code, bits);
    }
  }
  for (; filledBits < tableBits; filledBits++) {
    memory.copy(table + (4 << filledBits), table, 4 << filledBits);
  }
  if (maxBits > tableBits) fillSecondaryTables(table, tableBits, maxBits, results, sorted, code);
}

function fillSecondaryTables(
  table: i32,
  tableBits: i32,
  maxBits: i32,
  results: i32,
  firstSorted: i32,
  firstCode: i32,
): void {
  let code = firstCode;
  let sorted = firstSorted;
  const mask = (1 << tableBits) - 1;
  let prefix: i32 = -1;
  let start: i32 = 0;
  let end: i32 = 1 << tableBits;
  for (let bits = tableBits + 1; bits <= maxBits; bits++) {
    for (let rest = load<i32>(COUNTS + (bits << 2)); rest > 0; rest--) {
      if ((code & mask) != prefix) {
        prefix = code & mask;
        start = end;
        const subtableBits = secondaryBits(bits, rest, tableBits, maxBits);
        end += 1 << subtableBits;
        const link = EXCEPTIONAL | LINK | (start << 16) | (subtableBits << 8) | tableBits;
        store<u32>(table + (prefix << 2), link);
      }
      const entry = entryOf(sorted, results, bits - tableBits);
      const step = 1 << (bits - tableBits);
      for (let at = start + (code >> tableBits); at < end; at += step) store<u32>(table + (at << 2), entry);
      sorted += 2;
      code = nextCode(code, bits);
    }
  }
}

/** Bits that index a secondary table: enough for all codes with the same prefix. */
function secondaryBits(bits: i32, rest: i32, tableBits: i32, maxBits: i32): i32 {
  let subtableBits = bits - tableBits;
  let used = rest;
  while (used < 1 << subtableBits && tableBits + subtableBits < maxBits) {
    subtableBits++;
    used = (used << 1) + load<i32>(COUNTS + ((tableBits + subtableBits) << 2));
  }
  return subtableBits;
}

function entryOf(sorted: i32, results: i32, bits: i32): u32 {
  return load<u32>(results + (load<u16>(sorted) << 2)) + <u32>bits * ONE_CODE_BIT;
}

/** Adds one to a reversed code of `bits` bits. After the last code of a complete set comes 0. */
function nextCode(code: i32, bits: i32): i32 {
  const zeros = ~code & ((1 << bits) - 1);
  if (zeros == 0) return 0;
  const highest = 1 << (31 - clz(zeros));
  return (code & (highest - 1)) | highest;
}

function fill(table: i32, entries: i32, entry: u32): void {
  for (let at: i32 = 0; at < entries; at++) store<u32>(table + (at << 2), entry);
}
