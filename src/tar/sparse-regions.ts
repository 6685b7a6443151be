import { type ByteRange, intersectRanges } from '../core/byte-range.ts';

/** The parts of a sparse file that an archive holds, one behind the other; what is between them are zeros. */
export class SparseRegions {
  readonly #starts: Float64Array;
  readonly #ends: Float64Array;
  /** Where the bytes of each are, counted from the first that the archive holds. */
  readonly #storedStarts: Float64Array;
  /** Bytes that the archive holds. */
  readonly storedBytes: number;

  /** @param map pairs of offset and length, in order and apart: `0,512,4096,100` */
  constructor(map: string) {
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

  /** The parts of `range`, in offsets of the file, that are no zeros. */
  *within(range: ByteRange): Generator<ByteRange, void, void> {
    for (let at = this.#firstEndingAfter(range.start); at < this.#starts.length; at++) {
      const region = { start: this.#starts[at] ?? 0, end: this.#ends[at] ?? 0 };
      if (region.start >= range.end) return;
      const part = intersectRanges(region, range);
      if (part.start < part.end) yield part;
    }
  }

  /** Which of the stored bytes are in `range` of the file. */
  storedRange({ start, end }: ByteRange): ByteRange {
    const storedStart = this.#storedBefore(start);
    return { start: storedStart, end: Math.max(storedStart, this.#storedBefore(end)) };
  }

  /** Bytes stored of the file before `offset`. */
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
