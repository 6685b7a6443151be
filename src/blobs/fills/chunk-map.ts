import type { ByteRange } from '../../core/byte-range.ts';
import { rangeLength } from '../../core/byte-range.ts';
import type { StoredPiece } from '../files/stored-piece.ts';

/** A part of a blob that one request brings. Its bytes arrive in order. */
export interface Chunk {
  readonly start: number;
  /** Moves forward to the start of a new chunk when a reader wants the later part of this one first. */
  readonly end: number;
  /** The bytes `[start, filledEnd)` are in the file. */
  readonly filledEnd: number;
  /** A request is bringing it. */
  readonly claimed: boolean;
  /** An earlier fill has left the whole chunk in the file, which nobody has looked at since. */
  readonly stored: StoredPiece | undefined;
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

  /** @param stored what an earlier fill has left, in order and without overlaps */
  constructor(sizeBytes: number, chunkBytes: number, stored: readonly StoredPiece[] = []) {
    this.sizeBytes = sizeBytes;
    let position = 0;
    for (const piece of stored) {
      this.#addMissing(position, piece.start, chunkBytes);
      this.#chunks.push({ ...newChunk(piece.start, piece.end), stored: piece });
      position = piece.end;
    }
    this.#addMissing(position, sizeBytes, chunkBytes);
  }

  get isComplete(): boolean {
    return this.#firstIncomplete === this.#chunks.length;
  }

  /** Where the gapless beginning of the blob ends. */
  get prefixEnd(): number {
    return this.#chunks[this.#firstIncomplete]?.filledEnd ?? this.sizeBytes;
  }

  /** Bytes that are in the file, those that nobody has looked at included. */
  get heldBytes(): number {
    return this.#chunks.reduce(
      (sum, chunk) => sum + (chunk.stored === undefined ? chunk.filledEnd - chunk.start : rangeLength(chunk)),
      0,
    );
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
      if (chunk.filledEnd < range.start) continue;
      chunk.filledEnd = Math.max(chunk.filledEnd, Math.min(chunk.end, range.end));
      chunk.stored = undefined;
    }
    while (this.#isWhole(this.#firstIncomplete)) this.#firstIncomplete++;
  }

  /** What an earlier fill has left of the chunk is wrong. */
  forgetStored(chunk: Chunk): void {
    (chunk as MutableChunk).stored = undefined;
  }

  /**
   * Claim the chunk that holds `position`, from about there on: the part before is left for later. `undefined` if a request
   * brings it already or it is there.
   */
  claimAt(position: number): Chunk | undefined {
    const chunk = this.#chunks[this.#indexAt(position)];
    if (chunk === undefined || !isFree(chunk)) return undefined;
    const cut = alignDown(position);
    const saves = chunk.stored === undefined && cut - chunk.filledEnd >= MIN_CUT_BYTES;
    return claim(saves ? this.#cutAt(chunk, cut) : chunk);
  }

  /** Claim the chunk that is wanted next: one that lies soonest in a wanted range, else the first that is missing. */
  claimNext(wanted: Iterable<ByteRange>): Chunk | undefined {
    const soonest = this.#findWanted(wanted);
    if (soonest !== undefined) return claim(soonest.chunk);
    for (let index = this.#firstIncomplete; ; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined) return undefined;
      if (isFree(chunk)) return claim(chunk);
    }
  }

  /** Claim what lies soonest in a wanted range, and no more of its chunk than is wanted, but for some KiB on both sides. */
  claimWanted(wanted: Iterable<ByteRange>): Chunk | undefined {
    const soonest = this.#findWanted(wanted);
    if (soonest === undefined) return undefined;
    const { range } = soonest;
    let { chunk } = soonest;
    if (chunk.stored === undefined) {
      const start = alignDown(range.start);
      if (start > chunk.filledEnd) chunk = this.#cutAt(chunk, start);
      const end = alignDown(range.end + CUT_ALIGNMENT_BYTES - 1);
      if (end < chunk.end) this.#cutAt(chunk, end);
    }
    return claim(chunk);
  }

  /** Give a claimed chunk back, whole or not. */
  release(chunk: Chunk): void {
    (chunk as MutableChunk).claimed = false;
  }

  #addMissing(start: number, end: number, chunkBytes: number): void {
    for (let position = start; position < end;) {
      const next = Math.min(end, (Math.floor(position / chunkBytes) + 1) * chunkBytes);
      this.#chunks.push(newChunk(position, next));
      position = next;
    }
  }

  #findWanted(wanted: Iterable<ByteRange>): { chunk: MutableChunk; range: ByteRange } | undefined {
    let best: { chunk: MutableChunk; range: ByteRange; distance: number } | undefined;
    for (const range of wanted) {
      const first = this.#indexAt(range.start);
      for (let index = first; best === undefined || index - first < best.distance; index++) {
        const chunk = this.#chunks[index];
        if (chunk === undefined || chunk.start >= range.end) break;
        // Of its first chunk the range may want a part that is there.
        const isWanted = isFree(chunk) && chunk.filledEnd < range.end;
        if (isWanted) best = { chunk, range, distance: index - first };
      }
    }
    return best;
  }

  /** Make the part from `position` on a chunk of its own, and return that. */
  #cutAt(chunk: MutableChunk, position: number): MutableChunk {
    const later = newChunk(position, chunk.end);
    chunk.end = position;
    this.#chunks.splice(this.#indexAt(position), 0, later);
    return later;
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

function newChunk(start: number, end: number): MutableChunk {
  return { start, end, filledEnd: start, claimed: false, stored: undefined };
}

function isFree(chunk: Chunk): boolean {
  return !chunk.claimed && chunk.filledEnd < chunk.end;
}

function alignDown(position: number): number {
  return position - (position % CUT_ALIGNMENT_BYTES);
}

function claim(chunk: MutableChunk): Chunk {
  chunk.claimed = true;
  return chunk;
}
