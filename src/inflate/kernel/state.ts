// The decoder's state between two calls.

/** Addresses of the next byte of input and of its end. */
export let inputNext: i32 = 0;
export let inputEnd: i32 = 0;
/** Bits that are read but not consumed, lowest first, with zeros above them; and their number. */
export let bitBuffer: u64 = 0;
export let bitCount: i32 = 0;
/** Addresses of the next byte of output and of the first byte that a match may refer to. */
export let outputNext: i32 = 0;
export let outputBase: i32 = 0;
/** Address where the output of the tracked span begins; without one, an address that no match reaches. */
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

/**
 * Fills the buffer to at least `count` bits without reading a byte too many. False if the input is too short.
 */
export function pull(count: i32): bool {
  while (bitCount < count) {
    if (inputNext == inputEnd) return false;
    bitBuffer |= (<u64>load<u8>(inputNext)) << bitCount;
    inputNext++;
    bitCount += 8;
  }
  return true;
}

/** Consumes and returns the lowest bits of the buffer. */
export function take(count: i32): i32 {
  const bits = (<i32>bitBuffer) & ((1 << count) - 1);
  drop(count);
  return bits;
}

export function drop(count: i32): void {
  bitBuffer >>= count;
  bitCount -= count;
}
