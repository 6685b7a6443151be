import type { ByteRange } from '../../core/byte-range.ts';
import { rangeLength } from '../../core/byte-range.ts';
import type { StoredPiece } from '../files/stored-piece.ts';

/** A part of a blob for one request. Its bytes arrive in order. */
export interface Chunk {
  readonly start: number;
  /** Moves back to the start of a new chunk when a reader wants the later part of this one first. */
  readonly end: number;
  /** The bytes `[start, filledEnd)` have arrived. */
  readonly filledEnd: number;
  /** A request fetches it. */
  readonly claimed: boolean;
  /** A piece of an earlier fill covers the whole chunk and has not been verified yet. */
  readonly stored: StoredPiece | undefined;
}

type MutableChunk = { -readonly [K in keyof Chunk]: Chunk[K] };

/** A chunk is cut before a wanted position if that saves waiting for at least this many bytes. */
const MIN_CUT_BYTES = 256 * 1024;
const CUT_ALIGNMENT_BYTES = 64 * 1024;

/** Tracks which parts of a blob have arrived, which are being fetched, and which are next. No I/O. */
export class ChunkMap {
  readonly sizeBytes: number;
  /** Sorted, without gaps. */
  readonly #chunks: MutableChunk[] = [];
  /** Index of the first incomplete chunk. */
  #firstIncomplete = 0;

  /** @param stored pieces of an earlier fill, sorted, without overlaps */
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

  /** End of the contiguous bytes at the start of the blob. */
  get prefixEnd(): number {
    return this.#chunks[this.#firstIncomplete]?.filledEnd ?? this.sizeBytes;
  }

  /** Bytes in the file, including unverified pieces. */
  get heldBytes(): number {
    return this.#chunks.reduce(
      (sum, chunk) => sum + (chunk.stored === undefined ? chunk.filledEnd - chunk.start : rangeLength(chunk)),
      0,
    );
  }

  /** End of the contiguous bytes from `position` on, at most `limit`; `position` itself if it is missing. */
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

  /** End of the missing bytes from `position` on, which is missing itself. */
  missingEnd(position: number): number {
    for (let index = this.#indexAt(position) + 1; ; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined) return this.sizeBytes;
      if (chunk.filledEnd > chunk.start) return chunk.start;
    }
  }

  /** Records that `range` has arrived. It must start where the arrived bytes of its chunk end. */
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

  /** Drops the stored piece of a chunk, which is damaged. */
  forgetStored(chunk: Chunk): void {
    (chunk as MutableChunk).stored = undefined;
  }

  /**
   * Claims the chunk with `position`, from about there on; the part before is left for later. `undefined` if
   * it is claimed or has arrived.
   */
  claimAt(position: number): Chunk | undefined {
    const chunk = this.#chunks[this.#indexAt(position)];
    if (chunk === undefined || !isFree(chunk)) return undefined;
    const cut = alignDown(position);
    const saves = chunk.stored === undefined && cut - chunk.filledEnd >= MIN_CUT_BYTES;
    return claim(saves ? this.#cutAt(chunk, cut) : chunk);
  }

  /** Claims the next chunk: the one closest to the start of a wanted range, else the first missing one. */
  claimNext(wanted: Iterable<ByteRange>): Chunk | undefined {
    const soonest = this.#findWanted(wanted);
    if (soonest !== undefined) return claim(soonest.chunk);
    for (let index = this.#firstIncomplete; ; index++) {
      const chunk = this.#chunks[index];
      if (chunk === undefined) return undefined;
      if (isFree(chunk)) return claim(chunk);
    }
  }

  /**
   * Claims the bytes closest to the start of a wanted range, and no more than is wanted, except some KiB on
   * both sides.
   */
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

  /** Releases a claimed chunk, complete or not. */
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
        // The range may only want the arrived part of its first chunk.
        const isWanted = isFree(chunk) && chunk.filledEnd < range.end;
        if (isWanted) best = { chunk, range, distance: index - first };
      }
    }
    return best;
  }

  /** Splits a chunk at `position`, and returns the second part. */
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

  /** Index of the chunk with `position`; the number of chunks for the end of the blob. */
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
