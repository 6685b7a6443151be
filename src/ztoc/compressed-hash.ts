import { createHash, type Hash } from 'node:crypto';

import { type Digest, finishDigest } from '../core/digest.ts';

/** A decoder may have taken a few bytes more than it reports. */
const LAG_BYTES = 64;

/** Digests of ranges of a stream that comes in chunks. A range may begin a few bytes before the end of the one before. */
export class CompressedHash {
  #hash: Hash | undefined;
  #hashedTo = 0;
  /** The last chunk, and a little of what was before it. */
  #bytes: Buffer = Buffer.alloc(0);
  #bytesStart = 0;

  /** Where the range that has been hashed ends. */
  get hashedTo(): number {
    return this.#hashedTo;
  }

  /** Bytes of all chunks so far. */
  get length(): number {
    return this.#bytesStart + this.#bytes.length;
  }

  /** The next chunk; copied. */
  take(chunk: Uint8Array): void {
    const keptStart = Math.max(this.#bytesStart, this.length - LAG_BYTES);
    if (this.#hash !== undefined) this.#hashUpTo(this.#hash, keptStart);
    this.#bytes = Buffer.concat([this.#bytes.subarray(keptStart - this.#bytesStart), chunk]);
    this.#bytesStart = keptStart;
  }

  /** Begin a range, which drops one that has begun. */
  begin(start: number): void {
    this.#hash = createHash('sha256');
    this.#hashedTo = start;
  }

  /** Another hash of the same stream, whose range begins at `start`. */
  fork(start: number): CompressedHash {
    const fork = new CompressedHash();
    fork.#bytes = this.#bytes;
    fork.#bytesStart = this.#bytesStart;
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
    hash.update(this.#bytes.subarray(this.#hashedTo - this.#bytesStart, end - this.#bytesStart));
    this.#hashedTo = end;
  }
}
