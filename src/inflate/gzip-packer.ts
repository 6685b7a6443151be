import { createHash, type Hash } from 'node:crypto';

import { Deflate, Z_OK } from 'pako';

import { type Digest, finishDigest } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';

/** Names what decides the bytes of {@link GzipPacker}: the compressor, its version, its settings. */
export const GZIP_PACKER = 'pako 3.0.3 level 6';
const LEVEL = 6;

/** A gzip stream, and what went into it. */
export interface Packed {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly digest: Digest;
  /** Digest of the input. */
  readonly plainDigest: Digest;
  readonly plainBytes: number;
}

/**
 * Compresses into one gzip member. The same input always gives the same bytes, however it is split and
 * whatever Node runs it: zlib in JavaScript of a fixed version, no time and no name in the header. About 10
 * MB a second. Holds the result in memory.
 */
export class GzipPacker {
  readonly #deflate = new Deflate({ gzip: true, level: LEVEL });
  readonly #plainHash: Hash = createHash('sha256');
  readonly #chunks: Uint8Array[] = [];
  #plainBytes = 0;
  #packedBytes = 0;

  constructor() {
    this.#deflate.onData = (chunk) => {
      this.#chunks.push(chunk);
      this.#packedBytes += chunk.length;
    };
  }

  /** Bytes of the input so far. */
  get plainBytes(): number {
    return this.#plainBytes;
  }

  /** Bytes of the result so far; some of the input may still be held back. */
  get packedBytes(): number {
    return this.#packedBytes;
  }

  /** @param bytes not kept */
  write(bytes: Uint8Array): void {
    this.#plainHash.update(bytes);
    this.#plainBytes += bytes.length;
    this.#push(bytes, false);
  }

  /** Call once, at the end. */
  finish(): Packed {
    this.#push(new Uint8Array(0), true);
    const bytes = new Uint8Array(this.#packedBytes);
    let at = 0;
    for (const chunk of this.#chunks) {
      bytes.set(chunk, at);
      at += chunk.length;
    }
    return {
      bytes,
      digest: finishDigest(createHash('sha256').update(bytes)),
      plainDigest: finishDigest(this.#plainHash),
      plainBytes: this.#plainBytes,
    };
  }

  #push(bytes: Uint8Array, isLast: boolean): void {
    this.#deflate.push(bytes, isLast);
    if (this.#deflate.err !== Z_OK)
      throw new SpandrelError('INTERNAL', `pako cannot compress: status ${this.#deflate.err}`);
  }
}
