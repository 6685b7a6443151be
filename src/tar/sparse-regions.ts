import { type ByteRange, intersectRanges } from '../core/byte-range.ts';
import type { SparseMap } from './sparse-map.ts';

/** The parts of a sparse file that an archive holds, one after the other; the rest of the file is zeros. */
export class SparseRegions {
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;
  /** Where each region starts among the stored bytes. */
  readonly #storedStarts: Float64Array;
  /** Bytes that the archive holds. */
  readonly storedBytes: number;

  constructor(map: SparseMap) {
    const numbers = map === '' ? [] : map.split(',');
    const count = numbers.length / 2;
    this.#starts = new Float64Array(count);
    this.#ends = new Float64Array(count);
    this.#storedStarts = new Float64Array(count);
    let storedBytes = 0;
    for (let at = 0; at < count; at++) {
      const start = Number(numbers[2 * at]);
      const length = Number(numbers[2 * at + 1]);
      this.#starts[at] = start;
      this.#ends[at] = start + length;
      this.#storedStarts[at] = storedBytes;
      storedBytes += length;
    }
    this.storedBytes = storedBytes;
  }

  /** The parts of `range` of the file that the archive holds. */
  *within(range: ByteRange): Generator<ByteRange, void, void> {
    for (let at = this.#firstEndingAfter(range.start); at < this.#starts.length; at++) {
      const region = { start: this.#starts[at] ?? 0, end: this.#ends[at] ?? 0 };
      if (region.start >= range.end) return;
      const part = intersectRanges(region, range);
      if (part.start < part.end) yield part;
    }
  }

  /** The stored bytes that belong to this range of the file. */
  storedRange({ start, end }: ByteRange): ByteRange {
    const storedStart = this.#storedBefore(start);
    return { start: storedStart, end: Math.max(storedStart, this.#storedBefore(end)) };
  }

  /** Number of stored bytes before `offset` of the file. */
  #storedBefore(offset: number): number {
    const at = this.#firstEndingAfter(offset);
    const storedStart = this.#storedStarts[at];
    if (storedStart === undefined) return this.storedBytes;
    return storedStart + Math.max(0, offset - (this.#starts[at] ?? 0));
  }

  #firstEndingAfter(offset: number): number {
    let [low, high] = [0, this.#ends.length];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#ends[middle] ?? 0) > offset) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
