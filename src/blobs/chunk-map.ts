import type { ByteRange } from '../core/byte-range.ts';

/** A part of a blob that one request brings. Its bytes arrive in order. */
export interface Chunk {
  readonly start: number;
  /** Moves forward to the start of a new chunk when a reader wants the later part of this one first. */
  readonly end: number;
  /** The bytes `[start, filledEnd)` are in the file. */
  readonly filledEnd: number;
  /** A request is bringing it. */
  readonly claimed: boolean;
}

type MutableChunk = { -readonly [K in keyof Chunk]: Chunk[K] };

/** A chunk is cut before a wanted position if that saves at least so many bytes of waiting. */
const MIN_CUT_BYTES = 256 * 1024;
const CUT_ALIGNMENT_BYTES = 64 * 1024;

/** What of a blob has arrived, what is being fetched and what comes next. No I/O. */
export class ChunkMap {
  readonly sizeBytes: number;
  /** Without gaps, in order. */
  readonly #chunks: MutableChunk[] = [];
  /** Index of the first chunk that is not whole. */
  #firstIncomplete = 0;

  constructor(sizeBytes: number, chunkBytes: number) {
    this.sizeBytes = sizeBytes;
    for (let start = 0; start < sizeBytes; start += chunkBytes) {
      this.#chunks.push({
        start,
        end: Math.min(sizeBytes, start + chunkBytes),
        filledEnd: start,
        claimed: false,
      });
    }
  }

  get isComplete(): boolean {
    return this.#firstIncomplete === this.#chunks.length;
  }

  /** Where the gapless beginning of the blob ends. */
  get prefixEnd(): number {
    return this.#chunks[this.#firstIncomplete]?.filledEnd ?? this.sizeBytes;
  }

  /** Where the bytes that are there from `position` on end, looking no further than `limit`; `position` itself if it is missing. */
  availableEnd(position: number, limit: number): number {
    let end = position;
    for (let index = this.#indexAt(position); end < limit; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined || chunk.filledEnd <= end) break;
      end = chunk.filledEnd;
      if (end < chunk.end) break;
    }
    return Math.min(end, Math.max(position, limit));
  }

  /** Where the missing bytes from `position` on, which is missing itself, end: the next that is there, or the end of the blob. */
  missingEnd(position: number): number {
    for (let index = this.#indexAt(position) + 1; ; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined) return this.sizeBytes;
      if (chunk.filledEnd > chunk.start) return chunk.start;
    }
  }

  /** Record that `range` is in the file. It must begin where the bytes before it in its chunk end. */
  markFilled(range: ByteRange): void {
    for (let index = this.#indexAt(range.start); ; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined || chunk.start >= range.end) break;
      if (chunk.filledEnd >= range.start)
        chunk.filledEnd = Math.max(chunk.filledEnd, Math.min(chunk.end, range.end));
    }
    while (this.#isWhole(this.#firstIncomplete)) this.#firstIncomplete++;
  }

  /**
   * Claim the chunk that holds `position`, from about there on: the part before is left for later. `undefined` if a request
   * brings it already or it is there.
   */
  claimAt(position: number): Chunk | undefined {
    const index = this.#indexAt(position);
    const chunk = this.#chunks[index];
    if (chunk === undefined || chunk.claimed || chunk.filledEnd === chunk.end) return undefined;
    const cut = position - (position % CUT_ALIGNMENT_BYTES);
    if (cut - chunk.filledEnd < MIN_CUT_BYTES) return claim(chunk);
    const later: MutableChunk = { start: cut, end: chunk.end, filledEnd: cut, claimed: true };
    chunk.end = cut;
    this.#chunks.splice(index + 1, 0, later);
    return later;
  }

  /** Claim the chunk that is wanted next: one that lies soonest in a wanted range, else the first that is missing. */
  claimNext(wanted: Iterable<ByteRange>): Chunk | undefined {
    let best: { readonly chunk: MutableChunk; readonly distance: number } | undefined;
    for (const range of wanted) {
      const first = this.#indexAt(range.start);
      for (let index = first; best === undefined || index - first < best.distance; index++) {
        const chunk = this.#chunks[index];
        if (chunk === undefined || chunk.start >= range.end) break;
        if (isFree(chunk)) best = { chunk, distance: index - first };
      }
    }
    if (best !== undefined) return claim(best.chunk);
    for (let index = this.#firstIncomplete; ; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined) return undefined;
      if (isFree(chunk)) return claim(chunk);
    }
  }

  /** Give a claimed chunk back, whole or not. */
  release(chunk: Chunk): void {
    (chunk as MutableChunk).claimed = false;
  }

  #isWhole(index: number): boolean {
    const chunk = this.#chunks[index];
    return chunk !== undefined && chunk.filledEnd === chunk.end;
  }

  /** Index of the chunk that holds `position`; the number of chunks if it lies at the end. */
  #indexAt(position: number): number {
    let low = 0;
    let high = this.#chunks.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((this.#chunks[middle]?.end ?? 0) <= position) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

function isFree(chunk: Chunk): boolean {
  return !chunk.claimed && chunk.filledEnd < chunk.end;
}

function claim(chunk: MutableChunk): Chunk {
  chunk.claimed = true;
  return chunk;
}
