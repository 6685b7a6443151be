import { createHash, type Hash } from 'node:crypto';
import { parentPort } from 'node:worker_threads';

import { type Digest, type DigestAlgorithm, finishDigest } from '../../core/digest.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { Growth } from '../files/growth.ts';
import { ThreadFile } from '../files/thread-file.ts';

/** To the thread: hash a growing file; update or finish a running hash. Each gets a reply. */
export type DigestQuestion =
  | {
      readonly id: number;
      readonly path: string;
      readonly growth: SharedArrayBuffer;
      readonly algorithm: DigestAlgorithm;
      /** Number of the running hash, if more bytes follow in later requests. */
      readonly goesOnAs?: number;
    }
  | { readonly id: number; readonly hash: number; readonly bytes: Uint8Array }
  | { readonly id: number; readonly hash: number; readonly end: 'digest' | 'forget' };

/** To the thread: a question, or its cancellation. */
export type DigestRequest = DigestQuestion | { readonly id: number; readonly cancel: true };

/** From the thread. A failed growth has no digest. `code` is the system's error code, if there is one. */
export type DigestReply = { readonly id: number } & (
  | { readonly digest: Digest }
  | { readonly hashed: true }
  | { readonly failure: string; readonly code: string }
);

const READ_BYTES = 2 ** 20;

const running = new Set<number>();
const cancelled = new Set<number>();
/** Running hashes. */
const hashes = new Map<number, { readonly hash: Hash; readonly algorithm: DigestAlgorithm }>();
const port = parentPort;

/** Hashes run concurrently: while one waits for its file, the others go on. */
port?.on('message', (request: DigestRequest) => {
  if ('cancel' in request) {
    // A request that has been replied to cannot be cancelled.
    if (running.has(request.id)) cancelled.add(request.id);
    return;
  }
  running.add(request.id);
  void answer(request)
    .catch((error: unknown): DigestReply => ({
      id: request.id,
      failure: error instanceof Error ? error.message : String(error),
      code: nodeErrorCode(error),
    }))
    .then((reply) => {
      running.delete(request.id);
      cancelled.delete(request.id);
      port.postMessage(reply);
    });
});

async function answer(request: DigestQuestion): Promise<DigestReply> {
  const { id } = request;
  if ('path' in request) {
    const { algorithm, goesOnAs } = request;
    const hash = await hashGrowingFile(request);
    if (goesOnAs === undefined) return { id, digest: finishDigest(hash, algorithm) };
    hashes.set(goesOnAs, { hash, algorithm });
    return { id, hashed: true };
  }
  const begun = hashes.get(request.hash);
  if ('bytes' in request) {
    begun?.hash.update(request.bytes);
    return { id, hashed: true };
  }
  hashes.delete(request.hash);
  if (begun === undefined || request.end === 'forget') return { id, hashed: true };
  return { id, digest: finishDigest(begun.hash, begun.algorithm) };
}

async function hashGrowingFile({
  id,
  path,
  growth: shared,
  algorithm,
}: Extract<DigestQuestion, { path: string }>): Promise<Hash> {
  const growth = new Growth(shared);
  const hash = createHash(algorithm);
  if (growth.state === 'complete' && growth.availableBytes === 0) return hash;
  await using file = new ThreadFile(path);
  const buffer = Buffer.allocUnsafeSlow(READ_BYTES);
  for (let position = 0; ;) {
    await growth.waitBeyond(position);
    if (cancelled.has(id)) throw new Error('cancelled');
    // Load the state first: once the growth has ended, no more bytes arrive.
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
