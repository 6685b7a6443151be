import { closeSync, openSync } from 'node:fs';

import type { Growth } from '../files/growth.ts';
import { fillFromFileSync } from '../files/read-file-range.ts';
import { storeFault } from '../files/store-fault.ts';
import { ThreadFile } from '../files/thread-file.ts';
import { SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { waitFor } from '../../core/wait-for.ts';

export interface GrowingFileOptions {
  readonly path: string;
  readonly growth: Growth;
  readonly start: number;
  /** Size that the file will have. */
  readonly end: number;
  /** Ends the reading, also between two chunks. */
  readonly signal?: AbortSignal;
  /** Yield full chunks only, so that the chunks do not depend on when bytes come. */
  readonly fixedChunks?: boolean;
}

const CHUNK_BYTES = 256 * 1024;

/**
 * Bytes `[start, end)` of a file that still grows, as they come. Each chunk is valid until the next is asked for. For worker threads.
 * @throws SpandrelError UPSTREAM_UNREACHABLE if the growth fails (whoever fills the file knows why), STORE_FAILED if it cannot be read or ends too soon;
 * the reason of `signal`
 */
export async function* readGrowingFile(options: GrowingFileOptions): AsyncGenerator<Uint8Array, void, void> {
  const { growth, end } = options;
  await using file = await openGrowing(options);
  const chunkBytes = Math.min(CHUNK_BYTES, Math.max(1, end - options.start));
  const wantedAt = (at: number): number => (options.fixedChunks ? Math.min(chunkBytes, end - at) : 1);
  const readAt = (at: number, buffer: Buffer): Promise<Buffer> =>
    readFully(file, buffer.subarray(0, Math.min(chunkBytes, end - at, growth.availableBytes - at)), at);

  let [current, other] = [Buffer.alloc(chunkBytes), Buffer.alloc(chunkBytes)];
  let ahead: Promise<Buffer> | undefined;
  for (let at = options.start; at < end;) {
    await waitForBytes(growth, at + wantedAt(at), options.signal);
    const chunk = await (ahead ?? readAt(at, current));
    at += chunk.length;
    [current, other] = [other, current];
    // What is there already is read while this chunk is worked on.
    ahead = at < end && growth.availableBytes >= at + wantedAt(at) ? readAt(at, current) : undefined;
    ahead?.catch(() => undefined);
    yield chunk;
  }
}

/**
 * As {@link readGrowingFile}; no file is open while a chunk is used: who takes the next one need not come. Blocks its thread for each chunk.
 * @throws SpandrelError as {@link readGrowingFile}
 */
export async function* readPieces({
  path,
  growth,
  start,
  end,
}: Pick<GrowingFileOptions, 'path' | 'growth' | 'start' | 'end'>): AsyncGenerator<Uint8Array, void, void> {
  for (let at = start; at < end;) {
    await waitForBytes(growth, at + 1, undefined);
    const chunk = Buffer.allocUnsafeSlow(Math.min(CHUNK_BYTES, end - at, growth.availableBytes - at));
    try {
      readPieceSync(path, chunk, at);
    } catch (error) {
      // A fill that fails removes its file before it says so.
      if (nodeErrorCode(error) === 'ENOENT') await waitForBytes(growth, Number.POSITIVE_INFINITY, undefined);
      throw storeFault(error, 'read a blob');
    }
    at += chunk.length;
    yield chunk;
  }
}

function readPieceSync(path: string, chunk: Buffer, start: number): void {
  const fd = openSync(path, 'r');
  try {
    fillFromFileSync(fd, chunk, start);
  } finally {
    closeSync(fd);
  }
}

async function openGrowing({ path, growth, signal }: GrowingFileOptions): Promise<ThreadFile> {
  try {
    return new ThreadFile(path);
  } catch (error) {
    // A fill that fails removes its file before it says so.
    if (nodeErrorCode(error) === 'ENOENT') await waitForBytes(growth, Number.POSITIVE_INFINITY, signal);
    throw storeFault(error, 'open a blob');
  }
}

async function readFully(file: ThreadFile, buffer: Buffer, start: number): Promise<Buffer> {
  for (let have = 0; have < buffer.length;) {
    const bytesRead = await file.read(buffer.subarray(have), start + have).catch((error: unknown) => {
      throw storeFault(error, 'read a blob');
    });
    if (bytesRead === 0)
      throw new SpandrelError('STORE_FAILED', 'the file of a blob is shorter than it is said to be');
    have += bytesRead;
  }
  return buffer;
}

/** Resolves when the file is whole and has been verified. @throws SpandrelError as {@link readGrowingFile} */
export async function waitForGrowthEnd(growth: Growth, signal: AbortSignal): Promise<void> {
  await waitForBytes(growth, Number.POSITIVE_INFINITY, signal);
}

async function waitForBytes(growth: Growth, bytes: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  while (growth.availableBytes < bytes && growth.state === 'growing') {
    await waitFor(growth.waitBeyond(growth.availableBytes), signal);
  }
  if (growth.state === 'failed')
    throw new SpandrelError('UPSTREAM_UNREACHABLE', 'the blob did not arrive completely');
  if (growth.availableBytes < bytes && bytes !== Number.POSITIVE_INFINITY) {
    throw new SpandrelError('STORE_FAILED', 'the file of a blob is complete before its size is reached');
  }
}
