import type { ByteRange } from '../../core/byte-range.ts';

/** Spans begin where the gzip header ends. */
const MAX_HEAD_BYTES = 4096;

/**
 * Where the first unread byte of a layer is, as its spans are read. Spans follow each other; those of a gzip
 * layer may share a byte with the next one.
 */
export class LowestGap {
  #end = 0;
  /** Ends of the ranges that were read beyond the gap, by their starts. */
  readonly #beyond = new Map<number, number>();

  /** Call for each range that is read. @returns true if it fills the gap from its start on */
  fill({ start, end }: ByteRange): boolean {
    const isHead = this.#end === 0 && start < MAX_HEAD_BYTES;
    if (end <= this.#end) return false;
    if (start > this.#end && !isHead) {
      this.#beyond.set(start, end);
      return false;
    }
    this.#end = end;
    for (;;) {
      const at = [this.#end, this.#end - 1].find((candidate) => this.#beyond.has(candidate));
      if (at === undefined) return true;
      this.#end = Math.max(this.#end, this.#beyond.get(at) ?? 0);
      this.#beyond.delete(at);
    }
  }
}
