import { createHash } from 'node:crypto';

import { type Digest, digestAlgorithm, finishDigest } from '../../core/digest.ts';
import { SpandrelError } from '../../core/errors.ts';

/** Counts the chunks of a blob that pass through, and compares them with its digest if that is known. */
export class CheckedBytes implements AsyncIterable<Uint8Array>, AsyncDisposable {
  readonly #chunks: AsyncIterator<Uint8Array>;
  readonly #digest: Digest | undefined;
  readonly #hash: ReturnType<typeof createHash> | undefined;
  #bytes = 0;

  constructor(chunks: AsyncIterable<Uint8Array>, digest: Digest | undefined) {
    this.#chunks = chunks[Symbol.asyncIterator]();
    this.#digest = digest;
    this.#hash = digest && createHash(digestAlgorithm(digest));
  }

  async *[Symbol.asyncIterator](): AsyncGenerator<Uint8Array, void, void> {
    for (;;) {
      const { done, value } = await this.#chunks.next();
      if (done === true) return;
      this.#bytes += value.length;
      this.#hash?.update(value);
      yield value;
    }
  }

  /** Reads what the consumer left. @returns the size of the blob @throws SpandrelError BLOB_CORRUPT */
  async finish(): Promise<number> {
    for await (const _ of this);
    if (this.#hash === undefined || this.#digest === undefined) return this.#bytes;
    const digest = finishDigest(this.#hash, digestAlgorithm(this.#digest));
    if (digest === this.#digest) return this.#bytes;
    throw new SpandrelError('BLOB_CORRUPT', `the blob ${this.#digest} has the digest ${digest}`);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#chunks.return?.();
  }
}
