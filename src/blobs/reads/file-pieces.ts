import { closeSync, openSync } from 'node:fs';

import { fillFromFileSync } from '../files/read-file-range.ts';
import { storeFault } from '../files/store-fault.ts';

const PIECE_BYTES = 256 * 1024;

/**
 * Bytes of a file from a position to an end, which may be moved on between two pieces. No file is open
 * between pieces, so that the iteration may be abandoned. For worker threads: blocks its thread for each
 * piece. Iteration throws SpandrelError STORE_FAILED if the file cannot be read or is shorter.
 */
export class FilePieces implements AsyncIterable<Uint8Array> {
  readonly path: string;
  end: number;
  #position: number;

  constructor(path: string, position: number, end: number) {
    this.path = path;
    this.#position = position;
    this.end = end;
  }

  /** Where the next piece starts. */
  get position(): number {
    return this.#position;
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    while (this.#position < this.end) {
      const piece = Buffer.allocUnsafeSlow(Math.min(PIECE_BYTES, this.end - this.#position));
      this.#readSync(piece);
      this.#position += piece.length;
      yield piece;
    }
  }

  #readSync(piece: Buffer): void {
    try {
      const fd = openSync(this.path, 'r');
      try {
        fillFromFileSync(fd, piece, this.#position);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      throw storeFault(error, 'read a blob');
    }
  }
}
