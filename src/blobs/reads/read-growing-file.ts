import type { Growth } from '../files/growth.ts';
import { storeFault } from '../files/store-fault.ts';
import { ThreadFile } from '../files/thread-file.ts';
import { SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { waitFor } from '../../core/wait-for.ts';

export interface GrowingFileOptions {
  readonly path: string;
  readonly growth: Growth;
  readonly start: number;
  /** Final size of the file. */
  readonly end: number;
  /** Ends the iteration, also between two chunks. */
  readonly signal?: AbortSignal;
  /** Yield full chunks only, so that chunk boundaries do not depend on timing. */
  readonly fixedChunks?: boolean;
}

const CHUNK_BYTES = 256 * 1024;

/**
 * Bytes `[start, end)` of a growing file, as they arrive. Each chunk is valid until the next one is
 * requested. For worker threads.
 * @throws SpandrelError UPSTREAM_UNREACHABLE if the growth fails (the fill reports the cause), STORE_FAILED
 * if the file cannot be read or ends early; the reason of `signal`
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
    // Reads ahead what has arrived while this chunk is processed.
    ahead = at < end && growth.availableBytes >= at + wantedAt(at) ? readAt(at, current) : undefined;
    ahead?.catch(() => undefined);
    yield chunk;
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
      throw new SpandrelError('STORE_FAILED', 'the file of a blob is shorter than it should be');
    have += bytesRead;
  }
  return buffer;
}

/** Resolves when the file is complete and verified. @throws SpandrelError as {@link readGrowingFile} */
export async function waitForGrowthEnd(growth: Growth, signal?: AbortSignal): Promise<void> {
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
    throw new SpandrelError('STORE_FAILED', 'the file of a blob is complete at a smaller size');
  }
}
