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

/** A turn of the loop refills twice, and reads 8 bytes each time. */
const INPUT_MARGIN_BYTES: i32 = 16;
const LITLEN_MASK: u32 = ((1 << LITLEN_TABLE_BITS) - 1) << HEADROOM;
const DISTANCE_MASK: u32 = ((1 << DISTANCE_TABLE_BITS) - 1) << HEADROOM;

/**
 * Decode symbols while there is plenty of input and room. True if the block has ended. Stops in front of whatever is wrong and
 * leaves it to be judged without haste.
 *
 * What counts is the chain from one entry to the next: shift, mask, load. Therefore `buffer` has HEADROOM bits below the next
 * one, whole entries are subtracted from `count`, of which only the lowest six bits are good, and V8's mask of a shift's count
 * is the only one.
 */
export function decodeFast(outputLimit: i32): bool {
  return decodeLoop<Untracked>(outputLimit);
}

/** {@link decodeFast} for the beginning of a span, whose use of the window is noted. A loop of its own: the other pays nothing for it. */
export function decodeTracked(outputLimit: i32): bool {
  return decodeLoop<Tracked>(outputLimit);
}

// A loop is compiled for each of the two; all that counts is that `isInteger` can tell them apart.
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

  // As many whole bytes as there is room for: 54 bits at least. What lies above `count` is loaded again, the same, next time.
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
    // A length and a distance take 48 bits at most.
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
    // Extra bits stand behind the code.
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
    // The next symbol is looked up while this match is copied.
    buffer |= load<u64>(next) << count;
    next += 7 - ((count >> 3) & 7);
    count |= 56;
    entry = litlenOf(buffer);
    if (isInteger<Kind>() && <i32>distance > out - start) noteWindowUse(out, distance, length);
    copyMatch(out, distance, length);
    out += length;
  } while (next <= inputLimit && out <= outputLimit);

  // Whole bytes that have not been consumed go back, as far as they are there.
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

/** Where in the table the entry is that `link` leads to. The bits of the primary table have been consumed. */
function linkedIndex(link: u32, buffer: u64): u32 {
  return (link >> 16) + ((<u32>(buffer >> HEADROOM)) & ((1 << ((link >> 8) & 15)) - 1));
}
