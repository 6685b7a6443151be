import { open } from 'node:fs/promises';
import { promisify } from 'node:util';
import { crc32, deflateRawSync, inflateRaw, inflateRawSync } from 'node:zlib';

import { SpandrelError } from '../core/errors.ts';
import { WINDOW_BYTES } from '../inflate/engine.ts';
import type { WindowRecord } from './span-table.ts';

const inflate = promisify(inflateRaw);
/** Windows are written while a layer streams through: speed counts for more than the last percent. */
const LEVEL = 3;

/** A window as it is stored. */
export function packWindow(window: Uint8Array): Buffer {
  return deflateRawSync(window, { level: LEVEL });
}

/** The window in its stored bytes. @throws SpandrelError INDEX_MALFORMED */
export async function unpackWindow(stored: Uint8Array, record: WindowRecord): Promise<Uint8Array> {
  checkStored(stored, record);
  try {
    return checkWindow(await inflate(stored, { maxOutputLength: WINDOW_BYTES }));
  } catch (error) {
    throw damaged(error);
  }
}

/** {@link unpackWindow} for worker threads. */
export function unpackWindowSync(stored: Uint8Array, record: WindowRecord): Uint8Array {
  checkStored(stored, record);
  try {
    return checkWindow(inflateRawSync(stored, { maxOutputLength: WINDOW_BYTES }));
  } catch (error) {
    throw damaged(error);
  }
}

/**
 * A window of an index file. The file is opened for this one read, so that an index in memory owns nothing that must be closed.
 * @throws SpandrelError INDEX_MALFORMED; the system's error if the file is not there
 */
export async function readWindow(path: string, record: WindowRecord): Promise<Uint8Array> {
  if (record.bytes === 0) return new Uint8Array(0);
  await using file = await open(path, 'r');
  const stored = Buffer.allocUnsafe(Math.min(record.bytes, 2 * WINDOW_BYTES));
  const { bytesRead } = await file.read(stored, 0, stored.length, record.fileOffset);
  return await unpackWindow(stored.subarray(0, bytesRead), record);
}

function checkStored(stored: Uint8Array, record: WindowRecord): void {
  if (stored.length !== record.bytes || crc32(stored) !== record.crc32) throw damaged();
}

function checkWindow(window: Uint8Array): Uint8Array {
  if (window.length !== WINDOW_BYTES) throw damaged();
  return window;
}

function damaged(cause?: unknown): SpandrelError {
  return new SpandrelError('INDEX_MALFORMED', 'a window of the index is damaged', { cause });
}
