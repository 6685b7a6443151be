import { CRC_FOLDED, CRC_FOLDED_WORDS, CRC_TABLES } from './layout';

const POLYNOMIAL: u32 = 0xedb88320;

const TABLE_BYTES: i32 = 1024;

// Without carry-less multiplication, long inputs are shortened by a sparse multiple of the polynomial G:
// adding multiples of G changes no remainder, and x^203 + x^186 + x^123 + x^85 + x^79 + 1 is one of them
// (found by search; no other so short has six terms). Over GF(2), G(x)^128 = G(x^128), so it stays one with
// x^128 for x: each word of 16 bytes can be cancelled by adding it to five later ones.
const FOLD_WORDS: i32 = 203;
const WORD_BYTES: i32 = 16;
const FOLD_BYTES: i32 = FOLD_WORDS * WORD_BYTES;
/** Bytes that are cancelled before the remaining words are moved to the front. */
const BLOCK_BYTES: i32 = (CRC_FOLDED_WORDS - FOLD_WORDS) * WORD_BYTES;
/** Folding shorter inputs does not pay. */
const MIN_FOLDED_BYTES: i32 = 2 * FOLD_BYTES;

/** Sixteen tables, each for bytes one position further from the end. Call once per instance. */
export function prepareCrcTables(): void {
  for (let byte: i32 = 0; byte < 256; byte++) {
    let crc: u32 = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >> 1) ^ (crc & 1 ? POLYNOMIAL : 0);
    store<u32>(CRC_TABLES + (byte << 2), crc);
  }
  for (let at = CRC_TABLES; at < CRC_TABLES + 15 * TABLE_BYTES; at += 4) {
    store<u32>(at + TABLE_BYTES, addByte(load<u32>(at), 0));
  }
}

/** CRC-32 (RFC 1952, section 8) of the bytes between two addresses. */
export function crc32(start: i32, end: i32): u32 {
  let at = start;
  let crc: u32 = 0xffff_ffff;
  if (end - start >= MIN_FOLDED_BYTES) {
    at = fold(start, end);
    crc = 0;
    for (let ahead = CRC_FOLDED; ahead < CRC_FOLDED + FOLD_BYTES; ahead += WORD_BYTES) {
      crc = addWord(crc, v128.xor(v128.load(at), sumOfFolded(ahead)));
      at += WORD_BYTES;
    }
  }
  for (; end - at >= WORD_BYTES; at += WORD_BYTES) crc = addWord(crc, v128.load(at));
  for (; at < end; at++) crc = addByte(crc, load<u8>(at));
  return ~crc;
}

/**
 * Cancels all whole words but the last FOLD_WORDS. What they add to those is left in the sums at CRC_FOLDED,
 * which include the initial ones of a CRC-32. @returns the address of the first word that is left
 */
function fold(start: i32, end: i32): i32 {
  memory.fill(CRC_FOLDED, 0, FOLD_BYTES);
  const foldEnd = start + ((end - start) & -WORD_BYTES) - FOLD_BYTES;
  let at = start;
  let word = v128.xor(v128.load(at), i32x4(-1, 0, 0, 0));
  while (true) {
    const blockEnd = CRC_FOLDED + min(BLOCK_BYTES, foldEnd - at);
    let ahead: i32 = CRC_FOLDED;
    for (; ahead < blockEnd; ahead += WORD_BYTES) {
      v128.store(ahead, v128.xor(word, sumOfFolded(ahead)), FOLD_BYTES);
      at += WORD_BYTES;
      word = v128.load(at);
    }
    memory.copy(CRC_FOLDED, ahead, FOLD_BYTES);
    if (at == foldEnd) break;
  }
  memory.fill(CRC_FOLDED + FOLD_BYTES, 0, FOLD_BYTES);
  return at;
}

/** The sum that was added to the word FOLD_WORDS after the address `ahead`. */
function sumOfFolded(ahead: i32): v128 {
  const near = v128.xor(
    v128.load(ahead, (FOLD_WORDS - 17) * WORD_BYTES),
    v128.load(ahead, (FOLD_WORDS - 80) * WORD_BYTES),
  );
  const far = v128.xor(
    v128.load(ahead, (FOLD_WORDS - 118) * WORD_BYTES),
    v128.load(ahead, (FOLD_WORDS - 124) * WORD_BYTES),
  );
  return v128.xor(v128.xor(near, far), v128.load(ahead));
}

function addByte(crc: u32, byte: u32): u32 {
  return (crc >> 8) ^ load<u32>(CRC_TABLES + (((crc ^ byte) & 0xff) << 2));
}

/** The CRC after sixteen more bytes. */
function addWord(crc: u32, word: v128): u32 {
  const first = i64x2.extract_lane(word, 0) ^ (<i64>crc);
  return (
    tabledBytes(CRC_TABLES + 8 * TABLE_BYTES, first) ^ tabledBytes(CRC_TABLES, i64x2.extract_lane(word, 1))
  );
}

/** The contribution of eight bytes; `table` is that of the last one. */
function tabledBytes(table: i32, bytes: u64): u32 {
  const low = <u32>bytes;
  const high = <u32>(bytes >> 32);
  return (
    load<u32>(table + ((low & 0xff) << 2), 7 * TABLE_BYTES) ^
    load<u32>(table + (((low >> 8) & 0xff) << 2), 6 * TABLE_BYTES) ^
    load<u32>(table + (((low >> 16) & 0xff) << 2), 5 * TABLE_BYTES) ^
    load<u32>(table + ((low >> 24) << 2), 4 * TABLE_BYTES) ^
    load<u32>(table + ((high & 0xff) << 2), 3 * TABLE_BYTES) ^
    load<u32>(table + (((high >> 8) & 0xff) << 2), 2 * TABLE_BYTES) ^
    load<u32>(table + (((high >> 16) & 0xff) << 2), TABLE_BYTES) ^
    load<u32>(table + ((high >> 24) << 2))
  );
}
