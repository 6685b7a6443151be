import { createHash } from 'node:crypto';

import { type Digest, finishDigest } from '../../core/digest.ts';

/** Digests of what a layer decompresses to. */
export interface OutputDigests {
  /** Of all bytes. */
  readonly digest: Digest;
  /** By span size: the sha256 of each slice of this size, one after the other, 32 bytes each. */
  readonly spans: ReadonlyMap<number, Uint8Array<ArrayBuffer>>;
}

const SHA256_BYTES = 32;
const INITIAL_SPANS = 64;

/** Hashes a stream as a whole, and in slices of the given sizes. */
export class OutputHasher {
  readonly #whole = createHash('sha256');
  readonly #spans: readonly SpanHasher[];

  constructor(spanSizes: readonly number[]) {
    this.#spans = spanSizes.map((spanBytes) => new SpanHasher(spanBytes));
  }

  update(bytes: Uint8Array): void {
    this.#whole.update(bytes);
    for (const spans of this.#spans) spans.update(bytes);
  }

  /** Comes last. */
  finish(): OutputDigests {
    const spans = new Map(this.#spans.map((hasher) => [hasher.spanBytes, hasher.finish()]));
    return { digest: finishDigest(this.#whole), spans };
  }
}

class SpanHasher {
  readonly spanBytes: number;
  #hash = createHash('sha256');
  #length = 0;
  #digests = new Uint8Array(INITIAL_SPANS * SHA256_BYTES);
  #used = 0;

  constructor(spanBytes: number) {
    this.spanBytes = spanBytes;
  }

  update(bytes: Uint8Array): void {
    for (let at = 0; at < bytes.length;) {
      const part = bytes.subarray(at, at + this.spanBytes - this.#length);
      at += part.length;
      this.#length += part.length;
      this.#hash.update(part);
      if (this.#length === this.spanBytes) this.#endSpan();
    }
  }

  finish(): Uint8Array<ArrayBuffer> {
    if (this.#length > 0) this.#endSpan();
    return this.#digests.slice(0, this.#used);
  }

  #endSpan(): void {
    if (this.#used === this.#digests.length) {
      const grown = new Uint8Array(2 * this.#used);
      grown.set(this.#digests);
      this.#digests = grown;
    }
    this.#digests.set(this.#hash.digest(), this.#used);
    this.#used += SHA256_BYTES;
    this.#hash = createHash('sha256');
    this.#length = 0;
  }
}

/** The digests in a list of {@link OutputDigests.spans}. */
export function unpackDigests(packed: Uint8Array): Digest[] {
  const bytes = Buffer.from(packed.buffer, packed.byteOffset, packed.byteLength);
  return Array.from({ length: bytes.length / SHA256_BYTES }, (_, place): Digest => {
    const start = place * SHA256_BYTES;
    return `sha256:${bytes.toString('hex', start, start + SHA256_BYTES)}` as Digest;
  });
}
