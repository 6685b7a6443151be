import { type FileHandle, open, rm } from 'node:fs/promises';

import type { ByteRange } from '../core/byte-range.ts';
import { readFileRange } from './read-file-range.ts';
import { storeFault } from './store-fault.ts';

/** The file of a blob that is arriving; parts of it may be holes. */
export class PartialFile {
  readonly path: string;
  readonly #file: FileHandle;

  private constructor(path: string, file: FileHandle) {
    this.path = path;
    this.#file = file;
  }

  /** @throws SpandrelError STORE_FULL, STORE_FAILED */
  static async create(path: string): Promise<PartialFile> {
    try {
      return new PartialFile(path, await open(path, 'wx+'));
    } catch (error) {
      throw storeFault(error, 'create a file');
    }
  }

  /** Write all of `buffers`, one after the other, from `position` on. @throws SpandrelError STORE_FULL, STORE_FAILED */
  async write(buffers: readonly Buffer[], position: number): Promise<void> {
    let rest: readonly Buffer[] = buffers;
    let at = position;
    try {
      while (rest.length > 0) {
        const { bytesWritten } = await this.#file.writev(rest, at);
        at += bytesWritten;
        rest = dropBytes(rest, bytesWritten);
      }
    } catch (error) {
      throw storeFault(error, 'write a blob');
    }
  }

  /** @throws SpandrelError STORE_FAILED */
  read(range: ByteRange): Promise<Buffer> {
    return readFileRange(this.#file, range);
  }

  async sync(): Promise<void> {
    await this.#file.sync();
  }

  /** Close the file and remove its name here; under another name it may live on. */
  async discard(): Promise<void> {
    await this.#file.close();
    await rm(this.path, { force: true });
  }
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
