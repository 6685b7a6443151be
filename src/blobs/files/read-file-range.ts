import { readSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';

import type { ByteRange } from '../../core/byte-range.ts';
import { rangeLength } from '../../core/byte-range.ts';
import { SpandrelError } from '../../core/errors.ts';
import { storeFault } from './store-fault.ts';

/** Largest result of one read of a blob. */
export const READ_BYTES = 256 * 1024;

/** The bytes of `range` in a new buffer. @throws SpandrelError STORE_FAILED, also if the file is shorter */
export async function readFileRange(file: FileHandle, range: ByteRange): Promise<Buffer> {
  const buffer = Buffer.allocUnsafeSlow(rangeLength(range));
  await fillFromFile(file, buffer, range.start);
  return buffer;
}

/**
 * Fills `buffer` with the bytes of a file from `position` on. @throws SpandrelError STORE_FAILED, also if the
 * file is shorter
 */
export async function fillFromFile(file: FileHandle, buffer: Buffer, position: number): Promise<void> {
  for (let filled = 0; filled < buffer.byteLength;) {
    const { bytesRead } = await file
      .read(buffer, filled, buffer.byteLength - filled, position + filled)
      .catch((error: unknown) => {
        throw storeFault(error, 'read a blob');
      });
    filled += checkRead(bytesRead);
  }
}

/** As {@link fillFromFile}. For worker threads. */
export function fillFromFileSync(fd: number, buffer: Buffer, position: number): void {
  try {
    for (let filled = 0; filled < buffer.byteLength;)
      filled += checkRead(readSync(fd, buffer, filled, buffer.byteLength - filled, position + filled));
  } catch (error) {
    throw storeFault(error, 'read a blob');
  }
}

function checkRead(bytesRead: number): number {
  if (bytesRead === 0) throw new SpandrelError('STORE_FAILED', 'a file of the store has become shorter');
  return bytesRead;
}

/** @throws SpandrelError RANGE_INVALID if `range` does not lie within `sizeBytes` */
export function assertRangeWithin(range: ByteRange, sizeBytes: number): void {
  const { start, end } = range;
  const isWithin =
    Number.isSafeInteger(start) &&
    Number.isSafeInteger(end) &&
    start >= 0 &&
    start <= end &&
    end <= sizeBytes;
  if (!isWithin)
    throw new SpandrelError('RANGE_INVALID', `bytes ${start} to ${end} do not lie within ${sizeBytes}`, {
      detail: { sizeBytes },
    });
}
