import { constants } from 'node:fs';
import { type FileHandle, open, readFile, rm } from 'node:fs/promises';
import { crc32 } from 'node:zlib';

import type { Digest } from '../../core/digest.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { fillFromFile, READ_BYTES, readFileRange } from './read-file-range.ts';
import { storeFault } from './store-fault.ts';
import { mapPathOf } from './store-layout.ts';
import { formatMapHead, formatPiece, parseMap, type StoredPiece } from './stored-piece.ts';

/**
 * The sparse file of an arriving blob, of the blob's length, and beside it the map of the pieces that have
 * arrived. Neither is synced: after a crash, checksums show which pieces survived.
 */
export class PartialFile {
  readonly path: string;
  readonly #data: FileHandle;
  readonly #map: FileHandle;
  /** Lines that wait while another one is written. */
  #lines = '';
  #forgetsPieces = false;
  #writingLines: Promise<void> | undefined;

  private constructor(path: string, data: FileHandle, map: FileHandle) {
    this.path = path;
    this.#data = data;
    this.#map = map;
  }

  /** Descriptor of the data file. */
  get fd(): number {
    return this.#data.fd;
  }

  /** @throws SpandrelError STORE_FULL, STORE_FAILED; the caller removes what is there then */
  static async create(path: string, digest: Digest, sizeBytes: number): Promise<PartialFile> {
    try {
      await using opened = new AsyncDisposableStack();
      const map = opened.use(await open(mapPathOf(path), 'ax'));
      await map.appendFile(formatMapHead(digest, sizeBytes));
      const data = opened.use(await open(path, 'wx+'));
      await data.truncate(sizeBytes);
      opened.move();
      return new PartialFile(path, data, map);
    } catch (error) {
      throw storeFault(error, 'create a file');
    }
  }

  /**
   * Opens a file of an earlier fill with the pieces in its map.
   * @returns undefined if it cannot be used
   * @throws SpandrelError STORE_FAILED
   */
  static async resume(
    path: string,
    digest: Digest,
  ): Promise<{ file: PartialFile; sizeBytes: number; pieces: StoredPiece[] } | undefined> {
    try {
      await using opened = new AsyncDisposableStack();
      const known = parseMap(await readFile(mapPathOf(path), 'latin1'), digest);
      if (known === undefined) return undefined;
      const data = opened.use(await open(path, 'r+'));
      const map = opened.use(await open(mapPathOf(path), constants.O_WRONLY | constants.O_APPEND));
      // A torn line must not merge with the next one.
      await map.appendFile('\n');
      // Extend a truncated file: reading beyond its end would be an error, not zeros.
      await data.truncate(known.sizeBytes);
      opened.move();
      return { file: new PartialFile(path, data, map), ...known };
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT') return undefined;
      throw storeFault(error, 'open a file');
    }
  }

  /**
   * Writes all `buffers`, one after the other, from `position` on. @throws SpandrelError STORE_FULL,
   * STORE_FAILED
   */
  async write(buffers: readonly Buffer[], position: number): Promise<void> {
    let rest: readonly Buffer[] = buffers;
    let at = position;
    try {
      while (rest.length > 0) {
        const { bytesWritten } = await this.#data.writev(rest, at);
        at += bytesWritten;
        rest = dropBytes(rest, bytesWritten);
      }
    } catch (error) {
      throw storeFault(error, 'write a blob');
    }
  }

  /** Removes the map, so that no later fill resumes the file. @throws SpandrelError STORE_FAILED */
  async forgetPieces(): Promise<void> {
    this.#forgetsPieces = true;
    try {
      await rm(mapPathOf(this.path), { force: true });
    } catch (error) {
      throw storeFault(error, 'remove a chunk map');
    }
  }

  /** Records that a piece has arrived. @throws SpandrelError STORE_FULL, STORE_FAILED */
  async record(piece: StoredPiece): Promise<void> {
    if (this.#forgetsPieces) return;
    this.#lines += formatPiece(piece);
    while (this.#lines !== '') {
      await (this.#writingLines ??= this.#writeLines());
    }
  }

  /** True if the bytes of a piece still match its checksum. */
  async isIntact(piece: StoredPiece): Promise<boolean> {
    let checksum = 0;
    for (let start = piece.start; start < piece.end; start += READ_BYTES) {
      const end = Math.min(piece.end, start + READ_BYTES);
      checksum = crc32(await readFileRange(this.#data, { start, end }), checksum);
    }
    return checksum === piece.crc32;
  }

  /** Fills `buffer` with the bytes from `position` on. @throws SpandrelError STORE_FAILED */
  fill(buffer: Buffer, position: number): Promise<void> {
    return fillFromFile(this.#data, buffer, position);
  }

  async sync(): Promise<void> {
    await this.#data.sync();
  }

  /** Closes both files and keeps them. */
  async close(): Promise<void> {
    await Promise.all([this.#data.close(), this.#map.close()]);
  }

  async #writeLines(): Promise<void> {
    const lines = this.#lines;
    this.#lines = '';
    try {
      await this.#map.appendFile(lines);
    } catch (error) {
      throw storeFault(error, 'write a chunk map');
    } finally {
      this.#writingLines = undefined;
    }
  }
}

/** Removes the files that {@link PartialFile.create} made. */
export async function removePartial(path: string): Promise<void> {
  await rm(path, { force: true, recursive: true });
  await rm(mapPathOf(path), { force: true, recursive: true });
}

/** A write may be short, for example near the end of a quota. */
function dropBytes(buffers: readonly Buffer[], count: number): readonly Buffer[] {
  let left = count;
  for (const [index, buffer] of buffers.entries()) {
    if (left < buffer.byteLength) return [buffer.subarray(left), ...buffers.slice(index + 1)];
    left -= buffer.byteLength;
  }
  return [];
}
