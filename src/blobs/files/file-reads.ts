import type { ReadMemory, RestingBytes } from './read-memory.ts';

/** Bytes of a file that a reader has for the moment; not to be written to. */
export interface LentBytes extends Disposable {
  readonly bytes: Buffer;
  /** Whoever had the bytes is done with them. Disposing of it without this keeps the buffer from ever being filled again. */
  finish(): void;
}

/** Fill a buffer with what the file has from a position on. */
export type FillBuffer = (buffer: Buffer, position: number) => Promise<void>;

/** One read, and who has its bytes. */
interface Read extends RestingBytes {
  readonly start: number;
  readonly end: number;
  readonly loading: Promise<void>;
  users: number;
  /** Somebody has left without saying that they are done with the bytes. */
  isAbandoned: boolean;
}

/** What is shared lies within one of these. */
const CELL_BYTES = 2 ** 20;
const MAX_READS_OF_A_CELL = 16;

/**
 * Reads of one file, whose bytes do not change. Readers that want the same part at about the same time get the same bytes, read once:
 * nodes that start together go through a blob side by side.
 */
export class FileReads {
  readonly fill: FillBuffer;
  readonly #memory: ReadMemory;
  readonly #cells = new Map<number, Read[]>();

  constructor(memory: ReadMemory, fill: FillBuffer) {
    this.#memory = memory;
    this.fill = fill;
  }

  /** Bytes from `start` on, one at least, and none behind `end`; all up to there must be in the file. @throws what `fill` throws */
  async lend(start: number, end: number): Promise<LentBytes> {
    const read = this.#find(start) ?? this.#begin(start, end);
    let isOut = true;
    const giveBack = (isDone: boolean): void => {
      if (!isOut) return;
      isOut = false;
      read.users--;
      read.isAbandoned ||= !isDone;
      if (read.users === 0) this.#memory.rest(read, !read.isAbandoned);
    };
    try {
      await read.loading;
    } catch (error) {
      giveBack(false);
      throw error;
    }
    return {
      bytes: read.buffer.subarray(start - read.start, Math.min(end, read.end) - read.start),
      finish: () => giveBack(true),
      [Symbol.dispose]: () => giveBack(false),
    };
  }

  #find(start: number): Read | undefined {
    const read = this.#cells.get(cellOf(start))?.find((one) => one.start <= start && start < one.end);
    if (read === undefined) return undefined;
    if (read.users === 0) this.#memory.wake(read);
    read.users++;
    return read;
  }

  #begin(start: number, wantedEnd: number): Read {
    const size = this.#memory.sizeFor(wantedEnd - start);
    // Long reads end on a grid, so that those who come later find the same ones.
    const end = wantedEnd - start <= size ? wantedEnd : Math.floor((start + size) / size) * size;
    const buffer = this.#memory.claim(size);
    const loading = this.fill(buffer.subarray(0, end - start), start);
    const read: Read = {
      start,
      end,
      buffer,
      loading,
      users: 1,
      isAbandoned: false,
      forget: () => this.#remove(read),
    };
    loading.catch(() => this.#remove(read));
    this.#add(read);
    return read;
  }

  /** One that finds no place is its reader's alone. */
  #add(read: Read): void {
    const cell = cellOf(read.start);
    if (cell !== cellOf(read.end - 1)) return;
    const reads = this.#cells.get(cell) ?? [];
    if (reads.length === MAX_READS_OF_A_CELL) return;
    reads.push(read);
    this.#cells.set(cell, reads);
  }

  #remove(read: Read): void {
    const cell = cellOf(read.start);
    const others = this.#cells.get(cell)?.filter((one) => one !== read) ?? [];
    if (others.length > 0) this.#cells.set(cell, others);
    else this.#cells.delete(cell);
  }
}

function cellOf(position: number): number {
  return Math.floor(position / CELL_BYTES);
}
