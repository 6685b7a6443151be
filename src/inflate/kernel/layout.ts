// Layout of the kernel's memory. Nothing is allocated: addresses are the same in every instance.

/** Most compressed bytes that the host writes at once. */
export const INPUT_BYTES: i32 = 65536;
/** Bytes of output that a match can refer back to (RFC 1951, section 2). */
export const WINDOW_BYTES: i32 = 32768;
/** Most output after the window before the host must read it. */
export const OUTPUT_BYTES: i32 = 262144;
/** After the output: a pass of the fast loop, one symbol, and the excess of copying in wide steps. */
const OUTPUT_SLACK_BYTES: i32 = 1024;

// Bits that index the primary tables; longer codes continue in a secondary table.
export const LITLEN_TABLE_BITS: i32 = 11;
export const DISTANCE_TABLE_BITS: i32 = 8;
export const PRECODE_TABLE_BITS: i32 = 7;

export const MAX_CODE_BITS: i32 = 15;
export const LITLEN_SYMBOLS: i32 = 288;
export const DISTANCE_SYMBOLS: i32 = 32;
export const PRECODE_SYMBOLS: i32 = 19;

// Tables with all their secondary tables: at most 2342 and 402 entries (zlib's `examples/enough.c` counts
// them).
const LITLEN_ENTRIES: i32 = 2400;
const DISTANCE_ENTRIES: i32 = 448;
const PRECODE_ENTRIES: i32 = 1 << PRECODE_TABLE_BITS;
const ENTRY_BYTES: i32 = 4;

// The compiler puts its few constants at the beginning (`--memoryBase`).
/** Sixteen vectors; the first one holds 16 modulo each distance. */
export const PATTERNS: i32 = 4096;
export const COUNTS: i32 = PATTERNS + 256;
export const OFFSETS: i32 = COUNTS + 64;
export const SORTED_SYMBOLS: i32 = OFFSETS + 64;
export const CODE_LENGTHS: i32 = SORTED_SYMBOLS + 2 * LITLEN_SYMBOLS;
/** The common part of the entries of each symbol. */
export const LITLEN_RESULTS: i32 = CODE_LENGTHS + 384;
export const DISTANCE_RESULTS: i32 = LITLEN_RESULTS + ENTRY_BYTES * LITLEN_SYMBOLS;
export const PRECODE_RESULTS: i32 = DISTANCE_RESULTS + ENTRY_BYTES * DISTANCE_SYMBOLS;
export const PRECODE_TABLE: i32 = PRECODE_RESULTS + 128;
export const LITLEN_TABLE: i32 = PRECODE_TABLE + ENTRY_BYTES * PRECODE_ENTRIES;
export const DISTANCE_TABLE: i32 = LITLEN_TABLE + ENTRY_BYTES * LITLEN_ENTRIES;
/** Sixteen tables of 256 numbers. */
export const CRC_TABLES: i32 = DISTANCE_TABLE + ENTRY_BYTES * DISTANCE_ENTRIES;
/** Working space of `crc32.ts`. */
export const CRC_FOLDED: i32 = CRC_TABLES + 16 * 1024;
export const CRC_FOLDED_WORDS: i32 = 640;
export const INPUT: i32 = CRC_FOLDED + 16 * CRC_FOLDED_WORDS;
export const OUTPUT: i32 = INPUT + INPUT_BYTES + 64;
/** Decoding stops here; up to two matches may exceed it. */
export const OUTPUT_LIMIT: i32 = OUTPUT + WINDOW_BYTES + OUTPUT_BYTES;
/** The window of a span: bytes that it refers to, and zeros. Sixteen bytes after it may be overwritten. */
export const USED_WINDOW: i32 = OUTPUT_LIMIT + OUTPUT_SLACK_BYTES;
export const MEMORY_END: i32 = USED_WINDOW + WINDOW_BYTES + 16;
