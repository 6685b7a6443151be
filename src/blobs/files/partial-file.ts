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
 * The file of a blob that is arriving, as long as the blob but with holes, and beside it the map of the pieces that are there.
 * Neither is synced: after a crash, the checksums of the pieces tell what of them has survived.
 */
export class PartialFile {
  readonly path: string;
  readonly #data: FileHandle;
  readonly #map: FileHandle;
  /** Lines that wait for the one that is being written. */
  #lines = '';
  #forgetsPieces = false;
  #writingLines: Promise<void> | undefined;

  private constructor(path: string, data: FileHandle, map: FileHandle) {
    this.path = path;
    this.#data = data;
    this.#map = map;
  }

  /** Of the blob's bytes. */
  get fd(): number {
    return this.#data.fd;
  }

  /** @throws SpandrelError STORE_FULL, STORE_FAILED */
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
      // What cannot be removed either is swept at the next start.
      await removePartial(path).catch(() => undefined);
      throw storeFault(error, 'create a file');
    }
  }

  /**
   * Open a file that an earlier fill has left, with what its map says is there.
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
      // A line that was torn must not swallow the next one.
      await map.appendFile('\n');
      // What is beyond the end of a file that was cut short would not be a hole but an error.
      await data.truncate(known.sizeBytes);
      opened.move();
      return { file: new PartialFile(path, data, map), ...known };
    } catch (error) {
      if (nodeErrorCode(error) === 'ENOENT') return undefined;
      throw storeFault(error, 'open a file');
    }
  }

  /** Write all of `buffers`, one after the other, from `position` on. @throws SpandrelError STORE_FULL, STORE_FAILED */
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

  /** No later fill resumes the file. @throws SpandrelError STORE_FAILED */
  async forgetPieces(): Promise<void> {
    this.#forgetsPieces = true;
    try {
      await rm(mapPathOf(this.path), { force: true });
    } catch (error) {
      throw storeFault(error, 'remove a chunk map');
    }
  }

  /** Remember that a piece is there. @throws SpandrelError STORE_FULL, STORE_FAILED */
  async record(piece: StoredPiece): Promise<void> {
    if (this.#forgetsPieces) return;
    this.#lines += formatPiece(piece);
    while (this.#lines !== '') {
      await (this.#writingLines ??= this.#writeLines());
    }
  }

  /** True if the bytes of a piece are what they were when it was recorded. */
  async isIntact(piece: StoredPiece): Promise<boolean> {
    let checksum = 0;
    for (let start = piece.start; start < piece.end; start += READ_BYTES) {
      const end = Math.min(piece.end, start + READ_BYTES);
      checksum = crc32(await readFileRange(this.#data, { start, end }), checksum);
    }
    return checksum === piece.crc32;
  }

  /** Fill `buffer` with the bytes from `position` on. @throws SpandrelError STORE_FAILED */
  fill(buffer: Buffer, position: number): Promise<void> {
    return fillFromFile(this.#data, buffer, position);
  }

  async sync(): Promise<void> {
    await this.#data.sync();
  }

  /** Both files stay as they are. */
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

/** Remove what {@link PartialFile.create} has made. */
export async function removePartial(path: string): Promise<void> {
  await rm(path, { force: true, recursive: true });
  await rm(mapPathOf(path), { force: true, recursive: true });
}

/** A write may take less than it was given, near the end of a quota for example. */
function dropBytes(buffers: readonly Buffer[], count: number): readonly Buffer[] {
  let left = count;
  for (const [index, buffer] of buffers.entries()) {
    if (left < buffer.byteLength) return [buffer.subarray(left), ...buffers.slice(index + 1)];
    left -= buffer.byteLength;
  }
  return [];
}
