import { createHash, type Hash } from 'node:crypto';

import { type Digest, finishDigest } from '../core/digest.ts';

/** A decoder may have consumed a few bytes more than it reports. */
const LAG_BYTES = 64;
const NO_BYTES = new Uint8Array(0);

/**
 * Digests of ranges of a stream that arrives in chunks. A range may start a few bytes before the end of the
 * previous one.
 */
export class CompressedHash {
  #hash: Hash | undefined;
  #hashedTo = 0;
  /** The last bytes before the chunk. */
  #kept: Uint8Array = NO_BYTES;
  #chunk: Uint8Array = NO_BYTES;
  #chunkStart = 0;

  /** End of the bytes of the range that are hashed. */
  get hashedTo(): number {
    return this.#hashedTo;
  }

  /** Bytes in all chunks so far. */
  get length(): number {
    return this.#chunkStart + this.#chunk.length;
  }

  /** Borrows the next chunk until {@link giveBack}. */
  take(chunk: Uint8Array): void {
    this.#chunk = chunk;
  }

  /** Ends the loan of the chunk; copies the few bytes of it that a later range may start with. */
  giveBack(): void {
    const { length } = this;
    const keptStart = Math.max(this.#chunkStart - this.#kept.length, length - LAG_BYTES);
    if (this.#hash !== undefined) this.#hashUpTo(this.#hash, keptStart);
    this.#kept = Buffer.concat([...this.#parts(keptStart, length)]);
    this.#chunk = NO_BYTES;
    this.#chunkStart = length;
  }

  /** Starts a range, and drops an unfinished one. */
  begin(start: number): void {
    this.#hash = createHash('sha256');
    this.#hashedTo = start;
  }

  /** A second hash of the same stream, with a range that starts at `start`. It borrows the same chunk. */
  fork(start: number): CompressedHash {
    const fork = new CompressedHash();
    fork.#kept = this.#kept;
    fork.#chunk = this.#chunk;
    fork.#chunkStart = this.#chunkStart;
    fork.begin(start);
    return fork;
  }

  /**
   * Digest of the range up to `end`, which must not be less than `hashedTo`. The range may be extended
   * afterwards.
   */
  digest(end: number): Digest {
    const hash = this.#hash ?? createHash('sha256');
    this.#hashUpTo(hash, end);
    return finishDigest(hash.copy());
  }

  #hashUpTo(hash: Hash, end: number): void {
    if (end <= this.#hashedTo) return;
    for (const part of this.#parts(this.#hashedTo, end)) hash.update(part);
    this.#hashedTo = end;
  }

  *#parts(start: number, end: number): Generator<Uint8Array, void, void> {
    const keptStart = this.#chunkStart - this.#kept.length;
    if (start < this.#chunkStart) yield this.#kept.subarray(start - keptStart, end - keptStart);
    if (end > this.#chunkStart)
      yield this.#chunk.subarray(Math.max(0, start - this.#chunkStart), end - this.#chunkStart);
  }
}
