import { createHash, type Hash } from 'node:crypto';

import { type Digest, finishDigest } from '../core/digest.ts';

/** A decoder may have taken a few bytes more than it reports. */
const LAG_BYTES = 64;
const NO_BYTES = new Uint8Array(0);

/** Digests of ranges of a stream that comes in chunks. A range may begin a few bytes before the end of the one before. */
export class CompressedHash {
  #hash: Hash | undefined;
  #hashedTo = 0;
  /** A little of what was before the chunk. */
  #kept: Uint8Array = NO_BYTES;
  #chunk: Uint8Array = NO_BYTES;
  #chunkStart = 0;

  /** Where the range that has been hashed ends. */
  get hashedTo(): number {
    return this.#hashedTo;
  }

  /** Bytes of all chunks so far. */
  get length(): number {
    return this.#chunkStart + this.#chunk.length;
  }

  /** The next chunk, which is borrowed: {@link giveBack} it before the next. */
  take(chunk: Uint8Array): void {
    this.#chunk = chunk;
  }

  /** Keep no more of the chunk than a range may still begin with. */
  giveBack(): void {
    const { length } = this;
    const keptStart = Math.max(this.#chunkStart - this.#kept.length, length - LAG_BYTES);
    if (this.#hash !== undefined) this.#hashUpTo(this.#hash, keptStart);
    this.#kept = Buffer.concat([...this.#parts(keptStart, length)]);
    this.#chunk = NO_BYTES;
    this.#chunkStart = length;
  }

  /** Begin a range, which drops one that has begun. */
  begin(start: number): void {
    this.#hash = createHash('sha256');
    this.#hashedTo = start;
  }

  /** Another hash of the same stream, whose range begins at `start`; has borrowed the same chunk. */
  fork(start: number): CompressedHash {
    const fork = new CompressedHash();
    fork.#kept = this.#kept;
    fork.#chunk = this.#chunk;
    fork.#chunkStart = this.#chunkStart;
    fork.begin(start);
    return fork;
  }

  /** Digest of the range from its beginning to `end`, which is not before `hashedTo`; longer parts of it may be asked for later. */
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
