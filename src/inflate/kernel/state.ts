// The decoder's state between two calls.

/** Next byte of input, and where the input ends: addresses. */
export let inputNext: i32 = 0;
export let inputEnd: i32 = 0;
/** Bits that have been read from the input but not been consumed, lowest first, zeros above them; how many. */
export let bitBuffer: u64 = 0;
export let bitCount: i32 = 0;
/** Where the next byte of output goes, and the first byte that a match may refer to: addresses. */
export let outputNext: i32 = 0;
export let outputBase: i32 = 0;
/** Where the output of the span begins whose use of the window is noted; so far back that no match gets before it if there is none. */
export let spanStart: i32 = 0;

export function setInput(start: i32, end: i32): void {
  inputNext = start;
  inputEnd = end;
}

export function setInputNext(address: i32): void {
  inputNext = address;
}

export function setBits(bits: u64, count: i32): void {
  bitBuffer = bits;
  bitCount = count;
}

export function setOutput(next: i32): void {
  outputNext = next;
}

export function setOutputBase(address: i32): void {
  outputBase = address;
}

export function setSpanStart(address: i32): void {
  spanStart = address;
}

/** Have at least `count` bits in the buffer, reading no byte too many. False if the input does not have them. */
export function pull(count: i32): bool {
  while (bitCount < count) {
    if (inputNext == inputEnd) return false;
    bitBuffer |= (<u64>load<u8>(inputNext)) << bitCount;
    inputNext++;
    bitCount += 8;
  }
  return true;
}

/** The lowest bits of the buffer, which are consumed by that. */
export function take(count: i32): i32 {
  const bits = (<i32>bitBuffer) & ((1 << count) - 1);
  drop(count);
  return bits;
}

export function drop(count: i32): void {
  bitBuffer >>= count;
  bitCount -= count;
}
