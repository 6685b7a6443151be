import type { ReadMemory, RestingBytes } from './read-memory.ts';

/** Bytes of a file in a buffer that several readers may share; read only. Dispose of it when done. */
export interface SharedBytes extends Disposable {
  readonly bytes: Buffer;
  /** The reader is done with the bytes. Without this call, disposal keeps the buffer from being reused. */
  finish(): void;
}

/** Fills a buffer with the bytes of the file from `position` on. */
export type FillBuffer = (buffer: Buffer, position: number) => Promise<void>;

/** One read and its users. */
interface Read extends RestingBytes {
  readonly start: number;
  readonly end: number;
  readonly loading: Promise<void>;
  users: number;
  /** A user was disposed of without `finish`, so the buffer must not be reused. */
  isAbandoned: boolean;
}

/** A read is shared only if it lies within one cell. */
const CELL_BYTES = 2 ** 20;
const MAX_READS_OF_A_CELL = 16;

/**
 * Shared reads of one file, whose bytes do not change. Readers of the same part at about the same time share
 * one read: nodes that start together read a blob in step.
 */
export class FileReads {
  readonly fill: FillBuffer;
  readonly #memory: ReadMemory;
  readonly #cells = new Map<number, Read[]>();

  constructor(memory: ReadMemory, fill: FillBuffer) {
    this.#memory = memory;
    this.fill = fill;
  }

  /**
   * At least one byte from `start` on, and none from `end` on. All bytes up to `end` must be in the file.
   * @throws what `fill` throws
   */
  async read(start: number, end: number): Promise<SharedBytes> {
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
    // Long reads end on a grid, so that later readers find the same ones.
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

  /** A read that does not fit into a cell is not shared. */
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
