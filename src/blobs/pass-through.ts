import type { ByteRange } from '../core/byte-range.ts';
import { type Digest, digestAlgorithm } from '../core/digest.ts';
import { SpandrelError } from '../core/errors.ts';
import type { BlobSource } from '../core/sources/blob-source.ts';
import { isBrokenTransfer } from '../upstream/faults/is-upstream-away.ts';
import { backoffMs, realPause } from '../upstream/transport/backoff-ms.ts';
import { checkTotalBytes } from './fills/check-total-bytes.ts';
import { readWithin } from './reads/read-within.ts';
import type { DigestPool } from './verification/digest-pool.ts';

export interface PassThroughOptions {
  readonly digest: Digest;
  readonly sizeBytes: number;
  readonly source: BlobSource;
  readonly digests: DigestPool;
}

/** Attempts at a transfer that breaks. */
const MAX_TRIES = 4;
/** Bytes at the end of a blob that are withheld until its digest is verified. */
const HELD_BACK_BYTES = 64 * 1024;

/** Streams bytes from the upstream without storing them; each read sends its own requests. */
export class PassThrough {
  readonly #options: PassThroughOptions;

  constructor(options: PassThroughOptions) {
    this.#options = options;
  }

  /** A part of the blob, unverified. @throws SpandrelError UPSTREAM_*, BLOB_CORRUPT if the length is wrong */
  async *readPart(
    range: ByteRange,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer, void, undefined> {
    const leaving = new AbortController();
    const wanted = signal === undefined ? leaving.signal : AbortSignal.any([signal, leaving.signal]);
    let position = range.start;
    try {
      for (let attempt = 1; position < range.end; attempt++) {
        try {
          for await (const bytes of this.#request({ start: position, end: range.end }, wanted)) {
            position += bytes.byteLength;
            attempt = 1;
            yield bytes;
          }
        } catch (error) {
          if (!isBrokenTransfer(error) || attempt >= MAX_TRIES) throw error;
          await realPause(backoffMs(attempt - 1), wanted);
        }
      }
    } finally {
      leaving.abort();
    }
  }

  /**
   * The blob from `position` to its end. The end comes only if the digest is right.
   * @param path file with all bytes before `position`
   * @throws SpandrelError as {@link readPart}; BLOB_CORRUPT; STORE_FAILED if the file cannot be read
   */
  async *readVerified(
    position: number,
    path: string,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<Buffer, void, undefined> {
    const { digest, sizeBytes, digests } = this.#options;
    const hash = await digests.begin(digestAlgorithm(digest), path, position);
    try {
      const heldFrom = Math.max(position, sizeBytes - HELD_BACK_BYTES);
      const held: Buffer[] = [];
      let at = position;
      for await (const bytes of this.readPart({ start: position, end: sizeBytes }, signal)) {
        await hash.update(bytes);
        const free = Math.max(0, Math.min(bytes.byteLength, heldFrom - at));
        if (free > 0) yield bytes.subarray(0, free);
        if (free < bytes.byteLength) held.push(bytes.subarray(free));
        at += bytes.byteLength;
      }
      const actual = await hash.digest();
      if (actual !== digest)
        throw new SpandrelError(
          'BLOB_CORRUPT',
          `the upstream sent ${actual ?? 'something else'} for ${digest}`,
        );
      yield* held;
    } finally {
      await hash.forget();
    }
  }

  async *#request(range: ByteRange, signal: AbortSignal): AsyncGenerator<Buffer, void, undefined> {
    const { source, sizeBytes } = this.#options;
    const isWhole = range.start === 0 && range.end === sizeBytes;
    const response = await source.fetch(isWhole ? undefined : range, signal, sizeBytes);
    checkTotalBytes(response, sizeBytes);
    // `readVerified` withholds a small blob as a whole until its digest is verified.
    if (response.isUnproven === true && !(isWhole && sizeBytes <= HELD_BACK_BYTES))
      throw new SpandrelError(
        'STORE_FULL',
        'the blob comes from a private address: it must be stored and verified before it is sent, and ' +
          'the store has no room',
      );
    for await (const { bytes } of readWithin(response, range)) yield bytes;
  }
}
