// Results of `decode`. This file is both TypeScript and AssemblyScript: the host imports it too.
export const NEEDS_INPUT = 0;
export const OUTPUT_FULL = 1;
/** After a block that is not the last. */
export const BLOCK_END = 2;
/** After the last block; up to 7 bits remain before the next whole byte. */
export const STREAM_END = 3;

// Damage, in zlib's terms.
export const BAD_BLOCK_TYPE = 16;
export const BAD_STORED_LENGTHS = 17;
export const TOO_MANY_SYMBOLS = 18;
export const BAD_CODE_LENGTHS_SET = 19;
export const BAD_REPEAT = 20;
export const NO_END_OF_BLOCK = 21;
export const BAD_LITLEN_SET = 22;
export const BAD_DISTANCES_SET = 23;
export const BAD_LITLEN_CODE = 24;
export const BAD_DISTANCE_CODE = 25;
export const DISTANCE_TOO_FAR = 26;

/** Within the kernel: decoding continues. */
export const GOES_ON = -1;
