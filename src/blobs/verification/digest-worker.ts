import { createHash, type Hash } from 'node:crypto';

import { type Digest, type DigestAlgorithm, finishDigest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';
import { Growth } from '../files/growth.ts';
import { storeFault } from '../files/store-fault.ts';
import { ThreadFile } from '../files/thread-file.ts';

// Tasks of the digest thread, one a function: see `WorkerPool`. Tasks run concurrently: while one waits for
// its file, the others proceed.

export interface HashFileInput {
  readonly path: string;
  /** Shared memory of the file's {@link Growth}. */
  readonly growth: SharedArrayBuffer;
  readonly algorithm: DigestAlgorithm;
  /** One Int32 cell; not 0 if the digest is no longer needed. */
  readonly cancelled?: SharedArrayBuffer | undefined;
}

/** Names a running hash. */
export interface HashInput {
  readonly hash: number;
}

const READ_BYTES = 2 ** 20;

/** Running hashes. */
const hashes = new Map<number, { readonly hash: Hash; readonly algorithm: DigestAlgorithm }>();

/**
 * Task: the digest of a file, when it is complete. @throws SpandrelError STORE_FAILED or RESOURCE_EXHAUSTED,
 * with the system's error as its cause
 */
export async function hashFile(input: HashFileInput): Promise<Digest> {
  return finishDigest(await hashGrowingFile(input), input.algorithm);
}

/** Task: starts a running hash with the bytes of a file. @throws SpandrelError as {@link hashFile} */
export async function beginHash({ hash, ...file }: HashFileInput & HashInput): Promise<void> {
  hashes.set(hash, { hash: await hashGrowingFile(file), algorithm: file.algorithm });
}

/** Task: adds bytes. @throws SpandrelError WORKER_FAILED if the thread that began the hash has died */
export function updateHash({ hash, bytes }: HashInput & { readonly bytes: Uint8Array }): void {
  begun(hash).hash.update(bytes);
}

/** Task: finishes a hash. @throws SpandrelError as {@link updateHash} */
export function finishHash({ hash: name }: HashInput): Digest {
  const { hash, algorithm } = begun(name);
  hashes.delete(name);
  return finishDigest(hash, algorithm);
}

/** Task: drops a hash. */
export function forgetHash({ hash }: HashInput): void {
  hashes.delete(hash);
}

function begun(name: number): { readonly hash: Hash; readonly algorithm: DigestAlgorithm } {
  const hash = hashes.get(name);
  if (hash === undefined) throw new SpandrelError('WORKER_FAILED', 'the thread that began a hash has died');
  return hash;
}

async function hashGrowingFile(input: HashFileInput): Promise<Hash> {
  try {
    return await hashBytes(input);
  } catch (error) {
    throw storeFault(error, 'hash a blob');
  }
}

async function hashBytes({ path, growth: shared, algorithm, cancelled }: HashFileInput): Promise<Hash> {
  const growth = new Growth(shared);
  const cancelCell = cancelled && new Int32Array(cancelled);
  const hash = createHash(algorithm);
  if (growth.state === 'complete' && growth.availableBytes === 0) return hash;
  await using file = new ThreadFile(path);
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  for (let position = 0; ;) {
    await growth.waitBeyond(position);
    if (cancelCell !== undefined && Atomics.load(cancelCell, 0) !== 0) throw new Error('cancelled');
    // The state first: what is available when the growth has ended is all there will be.
    const { state, availableBytes } = growth;
    if (state === 'failed') throw new Error('the file will not be completed');
    if (position === availableBytes) {
      if (state === 'complete') return hash;
      continue;
    }
    const length = Math.min(READ_BYTES, availableBytes - position);
    const bytesRead = await file.read(buffer.subarray(0, length), position);
    if (bytesRead === 0) throw new Error('the file is shorter than announced');
    hash.update(buffer.subarray(0, bytesRead));
    position += bytesRead;
  }
}
