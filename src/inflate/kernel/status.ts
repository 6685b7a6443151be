// What `decode` returns. The one file that is TypeScript and AssemblyScript alike: the host imports it as well.
export const NEEDS_INPUT = 0;
export const OUTPUT_FULL = 1;
/** Behind a block that is not the last. */
export const BLOCK_END = 2;
/** Behind the last block, up to 7 bits before the next whole byte. */
export const STREAM_END = 3;

// Damage, each kind as zlib names it.
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

/** Within the kernel: go on. */
export const GOES_ON = -1;
