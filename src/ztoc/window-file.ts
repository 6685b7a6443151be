import { open } from 'node:fs/promises';
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import { SpandrelError } from '../core/errors.ts';
import { WINDOW_BYTES } from '../inflate/engine.ts';
import type { WindowRecord } from './read-span-table.ts';

/** Of mostly zeros: half the time of deflate's fastest level, and smaller. */
const PACKING = {
  params: { [constants.ZSTD_c_compressionLevel]: 1 },
  // Room for all but windows that are used to the full; the usual 16 KiB is no larger a piece than needed.
  chunkSize: 8192,
};
/** One byte more than a window tells zlib at once that there is nothing behind it. */
const UNPACKING = { maxOutputLength: WINDOW_BYTES, chunkSize: WINDOW_BYTES + 1 };
/** What cannot be packed grows by far less than this. */
const MAX_PACKED_BYTES = 2 * WINDOW_BYTES;

/** A window as it is stored. For worker threads. */
export function packWindow(window: Uint8Array): Buffer {
  return zstdCompressSync(window, PACKING);
}

/**
 * The {@link WINDOW_BYTES} in the bytes of {@link packWindow}, or nothing for none. For worker threads.
 * @throws SpandrelError INDEX_MALFORMED
 */
export function unpackWindow(packed: Uint8Array): Uint8Array {
  if (packed.length === 0) return packed;
  try {
    const window = zstdDecompressSync(packed, UNPACKING);
    if (window.length === WINDOW_BYTES) return window;
  } catch (error) {
    throw damaged(error);
  }
  throw damaged();
}

/** The packed window, if it is whole. @throws SpandrelError INDEX_MALFORMED */
export function checkPackedWindow(packed: Uint8Array, record: WindowRecord): Uint8Array {
  if (packed.length !== record.bytes || crc32(packed) !== record.crc32) throw damaged();
  return packed;
}

/**
 * A packed window of an index file. The file is opened for this one read, so that an index in memory owns nothing that must be
 * closed.
 * @throws SpandrelError INDEX_MALFORMED; the system's error if the file is not there
 */
export async function readPackedWindow(path: string, record: WindowRecord): Promise<Uint8Array> {
  if (record.bytes === 0) return new Uint8Array(0);
  await using file = await open(path, 'r');
  const packed = new Uint8Array(Math.min(record.bytes, MAX_PACKED_BYTES));
  const { bytesRead } = await file.read(packed, 0, packed.length, record.fileOffset);
  return checkPackedWindow(packed.subarray(0, bytesRead), record);
}

function damaged(cause?: unknown): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', 'a window of the index is damaged', { cause });
}
