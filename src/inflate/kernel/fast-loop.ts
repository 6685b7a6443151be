import { copyMatch } from './copy-match';
import { END_OF_BLOCK, EXCEPTIONAL, HEADROOM, LINK } from './entries';
import { DISTANCE_TABLE, DISTANCE_TABLE_BITS, LITLEN_TABLE, LITLEN_TABLE_BITS } from './layout';
import {
  bitBuffer,
  bitCount,
  inputEnd,
  inputNext,
  outputBase,
  outputNext,
  setBits,
  setInputNext,
  setOutput,
  spanStart,
} from './state';
import { noteWindowUse } from './window-use';

/** Each pass of the loop refills twice, with 8 bytes each. */
const INPUT_MARGIN_BYTES: i32 = 16;
const LITLEN_MASK: u32 = ((1 << LITLEN_TABLE_BITS) - 1) << HEADROOM;
const DISTANCE_MASK: u32 = ((1 << DISTANCE_TABLE_BITS) - 1) << HEADROOM;

/**
 * Decodes symbols while there is plenty of input and room. True if the block has ended. Stops before anything
 * wrong, which the careful loop then reports.
 *
 * Speed depends on the chain from one entry to the next: shift, mask, load. Therefore `buffer` has HEADROOM
 * bits below the next one. Whole entries are subtracted from `count`, so only its lowest six bits are valid,
 * and V8 masks the count of a shift.
 */
export function decodeFast(outputLimit: i32): bool {
  return decodeLoop<Untracked>(outputLimit);
}

/**
 * As {@link decodeFast}, for the beginning of a span: tracks its use of the window, at no cost for the other
 * loop.
 */
export function decodeTracked(outputLimit: i32): bool {
  return decodeLoop<Tracked>(outputLimit);
}

// The compiler makes a loop for each type; `isInteger` tells them apart.
type Tracked = i32;
type Untracked = f32;

function decodeLoop<Kind>(outputLimit: i32): bool {
  const inputStart = inputNext;
  const inputLimit = inputEnd - INPUT_MARGIN_BYTES;
  const base = outputBase;
  const start = spanStart;
  let next = inputStart;
  let out = outputNext;
  let buffer = bitBuffer << HEADROOM;
  let count: u32 = bitCount + HEADROOM;
  let ended = false;

  // Refills whole bytes, to at least 54 bits. Bits above `count` are loaded again by the next refill.
  buffer |= load<u64>(next) << count;
  next += 7 - ((count >> 3) & 7);
  count |= 56;
  let entry = litlenOf(buffer);
  do {
    if (<i32>entry < 0) {
      buffer >>= entry;
      count -= entry;
      store<u8>(out, entry >> 16);
      entry = litlenOf(buffer);
      if (<i32>entry < 0) {
        buffer >>= entry;
        count -= entry;
        store<u8>(out, entry >> 16, 1);
        entry = litlenOf(buffer);
        if (<i32>entry < 0) {
          buffer >>= entry;
          count -= entry;
          store<u8>(out, entry >> 16, 2);
          out += 3;
          entry = litlenOf(buffer);
          buffer |= load<u64>(next) << count;
          next += 7 - ((count >> 3) & 7);
          count |= 56;
          continue;
        }
        out += 2;
      } else {
        out += 1;
      }
      buffer |= load<u64>(next) << count;
      next += 7 - ((count >> 3) & 7);
      count |= 56;
    }
    // A length and a distance have 48 bits at most.
    const bufferBefore = buffer;
    const countBefore = count;
    if (entry & EXCEPTIONAL) {
      if (entry & LINK) {
        buffer >>= LITLEN_TABLE_BITS;
        count -= LITLEN_TABLE_BITS;
        entry = load<u32>(LITLEN_TABLE + (linkedIndex(entry, buffer) << 2));
        if (<i32>entry < 0) {
          buffer >>= entry;
          count -= entry;
          store<u8>(out, entry >> 16);
          out += 1;
          entry = litlenOf(buffer);
          buffer |= load<u64>(next) << count;
          next += 7 - ((count >> 3) & 7);
          count |= 56;
          continue;
        }
      }
      if (entry & EXCEPTIONAL) {
        if (entry & END_OF_BLOCK) {
          buffer >>= entry;
          count -= entry;
          ended = true;
        } else {
          buffer = bufferBefore;
          count = countBefore;
        }
        break;
      }
    }
    // Extra bits follow the code.
    const length = ((entry >> 16) & 511) + ((<u32>(buffer >> ((entry >> 8) & 31))) & (entry >> 25));
    buffer >>= entry;
    count -= entry;
    let far = load<u32>((<u32>buffer) & DISTANCE_MASK, DISTANCE_TABLE);
    if (far & EXCEPTIONAL) {
      if (far & LINK) {
        buffer >>= DISTANCE_TABLE_BITS;
        count -= DISTANCE_TABLE_BITS;
        far = load<u32>(DISTANCE_TABLE + (linkedIndex(far, buffer) << 2));
      }
      if (far & EXCEPTIONAL) {
        buffer = bufferBefore;
        count = countBefore;
        break;
      }
    }
    const distance = (far >> 16) + (((<u32>buffer) & (((1 << HEADROOM) << far) - 1)) >> (far >> 8));
    if (<i32>distance > out - base) {
      buffer = bufferBefore;
      count = countBefore;
      break;
    }
    buffer >>= far;
    count -= far;
    // The processor looks up the next symbol while it copies this match.
    buffer |= load<u64>(next) << count;
    next += 7 - ((count >> 3) & 7);
    count |= 56;
    entry = litlenOf(buffer);
    if (isInteger<Kind>() && <i32>distance > out - start) noteWindowUse(out, distance, length);
    copyMatch(out, distance, length);
    out += length;
  } while (next <= inputLimit && out <= outputLimit);

  // Returns whole unconsumed bytes to the input.
  count = (count & 63) - HEADROOM;
  const returned = min((<i32>count) >> 3, next - inputStart);
  count -= returned << 3;
  setInputNext(next - returned);
  setBits((buffer >> HEADROOM) & ((1 << (<u64>count)) - 1), count);
  setOutput(out);
  return ended;
}

function litlenOf(buffer: u64): u32 {
  return load<u32>((<u32>buffer) & LITLEN_MASK, LITLEN_TABLE);
}

/** Index of the entry that `link` leads to. The bits of the primary table are consumed already. */
function linkedIndex(link: u32, buffer: u64): u32 {
  return (link >> 16) + ((<u32>(buffer >> HEADROOM)) & ((1 << ((link >> 8) & 15)) - 1));
}
