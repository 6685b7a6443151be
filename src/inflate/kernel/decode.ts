import { buildTable } from './build-table';
import { decodeSymbols } from './careful-loop';
import { preparePatterns } from './copy-match';
import { crc32, prepareCrcTables } from './crc32';
import { INVALID, prepareResults } from './entries';
import {
  CODE_LENGTHS,
  DISTANCE_RESULTS,
  DISTANCE_SYMBOLS,
  DISTANCE_TABLE,
  DISTANCE_TABLE_BITS,
  INPUT,
  INPUT_BYTES,
  LITLEN_RESULTS,
  LITLEN_SYMBOLS,
  LITLEN_TABLE,
  LITLEN_TABLE_BITS,
  MEMORY_END,
  OUTPUT,
  OUTPUT_LIMIT,
  USED_WINDOW,
  WINDOW_BYTES,
} from './layout';
import { readCodeLengths, startCodeLengths } from './code-lengths';
import {
  bitBuffer,
  bitCount,
  drop,
  inputEnd,
  inputNext,
  outputBase,
  outputNext,
  pull,
  setBits,
  setInput,
  setInputNext,
  setOutput,
  setOutputBase,
  setSpanStart,
  take,
} from './state';
import {
  BAD_BLOCK_TYPE,
  BAD_STORED_LENGTHS,
  BLOCK_END,
  GOES_ON,
  NEEDS_INPUT,
  OUTPUT_FULL,
  STREAM_END,
} from './status';
import { isWindowUnused, moveSpan } from './window-use';

export { beginSpan } from './window-use';

// What comes next in the stream.
const BLOCK_HEADER: i32 = 0;
const STORED_LENGTHS: i32 = 1;
const STORED_BYTES: i32 = 2;
const DYNAMIC_CODES: i32 = 3;
const SYMBOLS: i32 = 4;

let position: i32 = BLOCK_HEADER;
let isLastBlock: bool = false;
let hasFixedTables: bool = false;
let storedBytes: i32 = 0;
let outputStart: i32 = OUTPUT + WINDOW_BYTES;

if (memory.size() << 16 < MEMORY_END) unreachable();
prepareResults();
preparePatterns();
prepareCrcTables();
setOutput(OUTPUT + WINDOW_BYTES);

/** Address to which the host writes compressed bytes. */
export function inputAddress(): i32 {
  return INPUT;
}

/** How many bytes it may write there. */
export function inputCapacity(): i32 {
  return INPUT_BYTES;
}

/** Address of the first unread byte of input. */
export function inputPosition(): i32 {
  return inputNext;
}

/** How many high bits of the byte before it are not consumed. */
export function leftoverBits(): i32 {
  return bitCount;
}

/**
 * Start of the last call's output, which ends at `outputEnd`. At least 32 KiB of output or zeros precede it.
 */
export function outputBegin(): i32 {
  return outputStart;
}

export function outputEnd(): i32 {
  return outputNext;
}

/** Address of the span's window, with the bytes that the span refers to so far; 0 if it refers to none. */
export function usedWindow(): i32 {
  return isWindowUnused ? 0 : USED_WINDOW;
}

/** CRC-32 of the output of the last call. */
export function outputCrc32(): u32 {
  return crc32(outputStart, outputNext);
}

/** Discards everything. Zeros precede the output again. */
export function reset(): void {
  memory.fill(OUTPUT, 0, WINDOW_BYTES);
  setOutput(OUTPUT + WINDOW_BYTES);
  setSpanStart(0);
  begin(0, 0, 0);
}

/**
 * Starts a deflate stream, or resumes one after a block.
 * @param bits leftover bits of the byte before the input
 * @param windowBytes how many bytes before the output a match may refer to
 */
export function begin(bits: i32, count: i32, windowBytes: i32): void {
  setBits(bits, count);
  setOutputBase(outputNext - windowBytes);
  position = BLOCK_HEADER;
  isLastBlock = false;
}

/** Decodes the input between two addresses up to the next event, and returns it (`status.ts`). */
export function decode(start: i32, end: i32): i32 {
  setInput(start, end);
  if (outputNext > OUTPUT_LIMIT) slideOutput();
  outputStart = outputNext;
  while (true) {
    let status: i32;
    if (position == SYMBOLS) status = decodeSymbols();
    else if (position == BLOCK_HEADER) status = readBlockHeader();
    else if (position == STORED_LENGTHS) status = readStoredLengths();
    else if (position == STORED_BYTES) status = copyStoredBytes();
    else status = readDynamicCodes();
    if (status == BLOCK_END) {
      position = BLOCK_HEADER;
      return isLastBlock ? STREAM_END : BLOCK_END;
    }
    if (status != GOES_ON) return status;
  }
}

/** Makes room for output: moves the window to the beginning. */
function slideOutput(): void {
  const start = outputNext - WINDOW_BYTES;
  memory.copy(OUTPUT, start, WINDOW_BYTES);
  setOutputBase(max(OUTPUT, outputBase - (start - OUTPUT)));
  moveSpan(start - OUTPUT);
  setOutput(OUTPUT + WINDOW_BYTES);
}

function readBlockHeader(): i32 {
  if (!pull(3)) return NEEDS_INPUT;
  isLastBlock = take(1) == 1;
  const type = take(2);
  if (type == 0) {
    drop(bitCount & 7);
    position = STORED_LENGTHS;
  } else if (type == 1) {
    buildFixedTables();
    position = SYMBOLS;
  } else if (type == 2) {
    startCodeLengths();
    // Even a damaged block may overwrite a table.
    hasFixedTables = false;
    position = DYNAMIC_CODES;
  } else {
    return BAD_BLOCK_TYPE;
  }
  return GOES_ON;
}

/** RFC 1951, section 3.2.6. */
function buildFixedTables(): void {
  if (hasFixedTables) return;
  memory.fill(CODE_LENGTHS, 8, 144);
  memory.fill(CODE_LENGTHS + 144, 9, 112);
  memory.fill(CODE_LENGTHS + 256, 7, 24);
  memory.fill(CODE_LENGTHS + 280, 8, 8);
  buildTable(LITLEN_TABLE, LITLEN_TABLE_BITS, CODE_LENGTHS, LITLEN_SYMBOLS, LITLEN_RESULTS, true, INVALID);
  memory.fill(CODE_LENGTHS, 5, DISTANCE_SYMBOLS);
  buildTable(
    DISTANCE_TABLE,
    DISTANCE_TABLE_BITS,
    CODE_LENGTHS,
    DISTANCE_SYMBOLS,
    DISTANCE_RESULTS,
    true,
    INVALID,
  );
  hasFixedTables = true;
}

function readStoredLengths(): i32 {
  if (!pull(32)) return NEEDS_INPUT;
  const both = <u32>bitBuffer;
  if ((both & 0xffff) != ~both >> 16) return BAD_STORED_LENGTHS;
  storedBytes = both & 0xffff;
  drop(32);
  position = STORED_BYTES;
  return GOES_ON;
}

function copyStoredBytes(): i32 {
  while (storedBytes > 0) {
    if (outputNext > OUTPUT_LIMIT) return OUTPUT_FULL;
    const bytes = min(storedBytes, min(inputEnd - inputNext, OUTPUT_LIMIT + 1 - outputNext));
    if (bytes == 0) return NEEDS_INPUT;
    memory.copy(outputNext, inputNext, bytes);
    setInputNext(inputNext + bytes);
    setOutput(outputNext + bytes);
    storedBytes -= bytes;
  }
  return BLOCK_END;
}

function readDynamicCodes(): i32 {
  const status = readCodeLengths();
  if (status == GOES_ON) position = SYMBOLS;
  return status;
}
