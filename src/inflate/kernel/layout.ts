// Where things lie in the kernel's memory. Nothing is ever allocated: the host sees the same addresses in every instance.

/** Compressed bytes that the host lays down at once. */
export const INPUT_BYTES: i32 = 65536;
/** Bytes of output that a match can refer back to (RFC 1951, section 2). */
export const WINDOW_BYTES: i32 = 32768;
/** Output that fits behind the window before the host must take it away. */
export const OUTPUT_BYTES: i32 = 262144;
/** Behind the output: a turn of the fast loop, one symbol more, and what copying in wide steps may write too much. */
const OUTPUT_SLACK_BYTES: i32 = 1024;

// Primary tables are indexed by this many bits; codes that are longer go on in a secondary table.
export const LITLEN_TABLE_BITS: i32 = 11;
export const DISTANCE_TABLE_BITS: i32 = 8;
export const PRECODE_TABLE_BITS: i32 = 7;

export const MAX_CODE_BITS: i32 = 15;
export const LITLEN_SYMBOLS: i32 = 288;
export const DISTANCE_SYMBOLS: i32 = 32;
export const PRECODE_SYMBOLS: i32 = 19;

// Tables with all their secondary tables: at most 2342 and 402 entries (zlib's `examples/enough.c` counts them).
const LITLEN_ENTRIES: i32 = 2400;
const DISTANCE_ENTRIES: i32 = 448;
const PRECODE_ENTRIES: i32 = 1 << PRECODE_TABLE_BITS;
const ENTRY_BYTES: i32 = 4;

// The compiler puts constant data at the very beginning (`--memoryBase`, and little of it).
/** Sixteen vectors, the first of which holds 16 modulo the distance instead. */
export const PATTERNS: i32 = 4096;
export const COUNTS: i32 = PATTERNS + 256;
export const OFFSETS: i32 = COUNTS + 64;
export const SORTED_SYMBOLS: i32 = OFFSETS + 64;
export const CODE_LENGTHS: i32 = SORTED_SYMBOLS + 2 * LITLEN_SYMBOLS;
/** What the entries of each symbol have in common. */
export const LITLEN_RESULTS: i32 = CODE_LENGTHS + 384;
export const DISTANCE_RESULTS: i32 = LITLEN_RESULTS + ENTRY_BYTES * LITLEN_SYMBOLS;
export const PRECODE_RESULTS: i32 = DISTANCE_RESULTS + ENTRY_BYTES * DISTANCE_SYMBOLS;
export const PRECODE_TABLE: i32 = PRECODE_RESULTS + 128;
export const LITLEN_TABLE: i32 = PRECODE_TABLE + ENTRY_BYTES * PRECODE_ENTRIES;
export const DISTANCE_TABLE: i32 = LITLEN_TABLE + ENTRY_BYTES * LITLEN_ENTRIES;
/** Sixteen tables of 256 numbers. */
export const CRC_TABLES: i32 = DISTANCE_TABLE + ENTRY_BYTES * DISTANCE_ENTRIES;
/** Vectors that `crc32.ts` works with. */
export const CRC_FOLDED: i32 = CRC_TABLES + 16 * 1024;
export const CRC_FOLDED_WORDS: i32 = 640;
export const INPUT: i32 = CRC_FOLDED + 16 * CRC_FOLDED_WORDS;
export const OUTPUT: i32 = INPUT + INPUT_BYTES + 64;
/** Decoding stops here; two matches may go beyond. */
export const OUTPUT_LIMIT: i32 = OUTPUT + WINDOW_BYTES + OUTPUT_BYTES;
/** The window of a span as far as the span refers to it, zeros elsewhere; sixteen bytes behind it may be rewritten. */
export const USED_WINDOW: i32 = OUTPUT_LIMIT + OUTPUT_SLACK_BYTES;
export const MEMORY_END: i32 = USED_WINDOW + WINDOW_BYTES + 16;
