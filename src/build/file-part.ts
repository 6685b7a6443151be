import { open } from 'node:fs/promises';

import { type ByteRange, rangeLength } from '../core/byte-range.ts';
import { SpandrelError } from '../core/errors.ts';

/** A range of a file on disk. */
export interface FilePart {
  readonly path: string;
  readonly range: ByteRange;
}

const CHUNK_BYTES = 2 ** 20;

/**
 * The bytes of a part; a chunk is valid until the next one is requested.
 * @throws SpandrelError STORE_FAILED if the file is shorter than the range; system errors
 */
export async function* readFilePart({ path, range }: FilePart): AsyncGenerator<Buffer, void, void> {
  await using file = await open(path, 'r');
  const buffer = Buffer.alloc(Math.min(CHUNK_BYTES, Math.max(1, rangeLength(range))));
  for (let at = range.start; at < range.end;) {
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, range.end - at), at);
    if (bytesRead === 0) throw new SpandrelError('STORE_FAILED', `${path} is shorter than expected`);
    yield buffer.subarray(0, bytesRead);
    at += bytesRead;
  }
}
