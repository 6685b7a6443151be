import { closeSync, openSync, readSync } from 'node:fs';
import { constants, crc32, zstdCompressSync, zstdDecompressSync } from 'node:zlib';

import { isPassingFault, storeFault } from '../blobs/files/store-fault.ts';
import { SpandrelError } from '../core/errors.ts';
import { nodeErrorCode } from '../core/node-error-code.ts';
import { WINDOW_BYTES } from '../inflate/engine.ts';
import type { WindowRecord } from './read-span-table.ts';

/** A packed window in its file. Can be sent to a thread. */
export interface StoredWindow {
  readonly record: WindowRecord;
  /** The names that the index file may have, or its content. */
  readonly file: readonly string[] | Uint8Array;
}

/**
 * Windows of read spans are mostly zeros: zstd takes half the time of deflate's fastest level and packs them
 * smaller.
 */
const PACKING = {
  params: { [constants.ZSTD_c_compressionLevel]: 1 },
  // Fits almost every packed window in one chunk; the default is 16 KiB.
  chunkSize: 8192,
};
/** With room for one byte more than a window, zlib sees at once that nothing follows. */
const UNPACKING = { maxOutputLength: WINDOW_BYTES, chunkSize: WINDOW_BYTES + 1 };
/** Incompressible windows grow by far less than this. */
const MAX_PACKED_BYTES = 2 * WINDOW_BYTES;

/** The form in which a window is stored. For worker threads. */
export function packWindow(window: Uint8Array): Buffer {
  return zstdCompressSync(window, PACKING);
}

/**
 * Reverses {@link packWindow}; empty input gives an empty window. For worker threads.
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
 * Reads and unpacks a window; empty if the span needs none. Opens the file for this one read, so that an
 * index in memory owns nothing that must be closed. For worker threads.
 * @throws SpandrelError INDEX_MALFORMED, also if the file is gone or cannot be read; STORE_FAILED for a
 * passing fault of the disk
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

/** Opens the first of `names` that exists. */
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
