import { closeSync, openSync, readSync } from 'node:fs';
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import { isPassingFault, storeFault } from '../blobs/files/store-fault.ts';
import { SpandrelError } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import { WINDOW_BYTES } from '../inflate/engine.ts';
import type { WindowRecord } from './read-span-table.ts';

/** A packed window where it is stored; can be sent to a thread. */
export interface StoredWindow {
  readonly record: WindowRecord;
  /** The names that the index file may have, or all of its bytes. */
  readonly file: readonly string[] | Uint8Array;
}

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
function unpackWindow(packed: Uint8Array): Uint8Array {
  if (packed.length === 0) return packed;
  try {
    const window = zstdDecompressSync(packed, UNPACKING);
    if (window.length === WINDOW_BYTES) return window;
  } catch (error) {
    throw damaged(error);
  }
  throw damaged();
}

/**
 * The window, unpacked; nothing if the span needs none. The file is opened for this one read, so that an index in memory owns nothing
 * that must be closed. For worker threads.
 * @throws SpandrelError INDEX_MALFORMED, also if the file is gone or cannot be read; STORE_FAILED for a reason that lies outside of it
 */
export function readWindow({ record, file }: StoredWindow): Uint8Array {
  const { fileOffset, bytes } = record;
  if (bytes === 0) return new Uint8Array(0);
  const packed =
    file instanceof Uint8Array ? file.subarray(fileOffset, fileOffset + bytes) : readPacked(record, file);
  if (packed.length !== bytes || crc32(packed) !== record.crc32) throw damaged();
  return unpackWindow(packed);
}

function readPacked({ fileOffset, bytes }: WindowRecord, names: readonly string[]): Uint8Array {
  let file: number | undefined;
  try {
    file = openFirst(names);
    const packed = new Uint8Array(Math.min(bytes, MAX_PACKED_BYTES));
    return packed.subarray(0, readSync(file, packed, 0, packed.length, fileOffset));
  } catch (error) {
    throw isPassingFault(error) ? storeFault(error, 'read an index') : damaged(error);
  } finally {
    if (file !== undefined) closeSync(file);
  }
}

/** The descriptor of the first of `names` that there is. */
function openFirst([name, ...others]: readonly string[]): number {
  if (name === undefined) throw damaged();
  try {
    return openSync(name, 'r');
  } catch (error) {
    if (nodeErrorCode(error) !== 'ENOENT') throw error;
    return openFirst(others);
  }
}

function damaged(cause?: unknown): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', 'a window of the index is damaged', { cause });
}
