import type { ByteRange } from '../core/byte-range.ts';
import { rangeLength } from '../core/byte-range.ts';
import { type Digest, digestAlgorithm } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { BlobResponse, BlobSource } from '../upstream/blob-source.ts';
import { AlternativeSources } from './alternative-sources.ts';
import { ArrivalBoard } from './arrival-board.ts';
import { type Chunk, ChunkMap } from './chunk-map.ts';
import type { DigestWorker } from './digest-worker.ts';
import { Growth } from './growth.ts';
import type { PartialFile } from './partial-file.ts';
import { RangeWriter } from './range-writer.ts';

export interface FillOptions {
  readonly digest: Digest;
  readonly source: BlobSource;
  readonly file: PartialFile;
  readonly sizeBytes: number;
  /** An answer that is there already: the beginning of the blob, or all of it. */
  readonly first: BlobResponse | undefined;
  readonly parallel: number;
  readonly chunkBytes: number;
  readonly digests: DigestWorker;
  readonly signal: AbortSignal;
}

/** Tries of one range whose transfer breaks in its middle; requests as such are repeated by the transport. */
const MAX_TRIES = 4;
/** Withheld from readers until the digest has been verified, so that nobody sees a corrupt blob end cleanly. */
const HELD_BACK_BYTES = 64 * 1024;

/** Brings one blob into a file: what readers wait for first, then in order, several ranges at a time. */
export class Fill {
  /** Complete once the digest has been verified. */
  readonly growth = new Growth();
  readonly #options: FillOptions;
  readonly #sources: AlternativeSources;
  readonly #chunks: ChunkMap;
  readonly #board = new ArrivalBoard();
  /** What the digest is computed from: complete once all bytes are there. */
  readonly #arrived = new Growth();
  #isVerified = false;
  #failure: Error | undefined;

  constructor(options: FillOptions) {
    this.#options = options;
    this.#sources = new AlternativeSources(options.source);
    this.#chunks = new ChunkMap(options.sizeBytes, options.chunkBytes);
  }

  /** Another repository that should have the blob. */
  addSource(source: BlobSource): void {
    this.#sources.add(source);
  }

  /** Fetch and verify. @throws SpandrelError BLOB_CORRUPT, UPSTREAM_*, BLOB_UNKNOWN, STORE_*; the reason of the signal */
  async run(): Promise<void> {
    const { digest, file, digests, signal } = this.#options;
    const hashing = digests.hash(file.path, this.#arrived, digestAlgorithm(digest), signal);
    hashing.catch(() => undefined);
    try {
      await this.#fetchAll();
      this.#arrived.finish('complete');
      const actual = await hashing;
      if (actual !== digest)
        throw new SpandrelError('BLOB_CORRUPT', `the upstream sent ${actual} for ${digest}`);
      this.#isVerified = true;
    } catch (error) {
      this.#arrived.finish('failed');
      this.fail(error as Error);
      throw error;
    }
  }

  /** The blob is in its place: readers get its end. */
  complete(): void {
    this.growth.finish('complete');
    this.#board.announce(() => true);
  }

  fail(error: Error): void {
    this.#failure ??= error;
    if (this.growth.state === 'growing') this.growth.finish('failed');
    this.#board.fail(error);
  }

  /** Where the readable bytes from `range.start` on end; waits until there is one. @throws what the fill failed with */
  async waitFor(range: ByteRange, signal: AbortSignal | undefined): Promise<number> {
    for (;;) {
      const end = this.#readableEnd(range);
      if (end > range.start) return end;
      if (this.#failure !== undefined) throw this.#failure;
      await this.#board.wait(range, signal);
    }
  }

  #readableEnd({ start, end }: ByteRange): number {
    const limit = this.#isVerified ? end : Math.min(end, this.#options.sizeBytes - HELD_BACK_BYTES);
    return limit <= start ? start : this.#chunks.availableEnd(start, limit);
  }

  async #fetchAll(): Promise<void> {
    const { first, parallel, sizeBytes, chunkBytes } = this.#options;
    if (sizeBytes === 0) return;
    const failed = new AbortController();
    const signal = AbortSignal.any([this.#options.signal, failed.signal]);
    // An upstream that ignores ranges sends everything with every answer, so there is only one.
    const isSequential =
      first !== undefined &&
      first.range.start === 0 &&
      first.range.end === sizeBytes &&
      sizeBytes > chunkBytes;
    const workers = Array.from({ length: isSequential ? 1 : parallel }, (_, place) =>
      this.#work(place === 0 ? first : undefined, signal),
    );
    try {
      await Promise.all(workers);
    } catch (error) {
      failed.abort(error);
      await Promise.allSettled(workers);
      throw error;
    }
  }

  async #work(first: BlobResponse | undefined, signal: AbortSignal): Promise<void> {
    let response = first;
    for (let chunk = this.#claim(response); chunk !== undefined; chunk = this.#claim(response)) {
      try {
        await this.#fetchChunk(chunk, response, signal);
      } finally {
        this.#chunks.release(chunk);
      }
      response = undefined;
    }
  }

  #claim(response: BlobResponse | undefined): Chunk | undefined {
    return response === undefined
      ? this.#chunks.claimNext(this.#board.wanted())
      : this.#chunks.claimAt(response.range.start);
  }

  async #fetchChunk(chunk: Chunk, first: BlobResponse | undefined, signal: AbortSignal): Promise<void> {
    let response = first;
    for (let attempt = 1; chunk.filledEnd < chunk.end; attempt++) {
      try {
        const range = { start: chunk.filledEnd, end: chunk.end };
        response ??= await this.#sources.fetch(
          rangeLength(range) === this.#options.sizeBytes ? undefined : range,
          signal,
        );
        await this.#receive(response, chunk, signal);
      } catch (error) {
        const isTransfer = isSpandrelError(
          error,
          'UPSTREAM_UNREACHABLE',
          'UPSTREAM_TIMEOUT',
          'UPSTREAM_PROTOCOL',
        );
        if (!isTransfer || attempt === MAX_TRIES) throw error;
      }
      response = undefined;
    }
  }

  async #receive(response: BlobResponse, chunk: Chunk, signal: AbortSignal): Promise<void> {
    const { sizeBytes, file } = this.#options;
    if (response.totalBytes !== sizeBytes) {
      throw new SpandrelError(
        'BLOB_CORRUPT',
        `the blob should have ${sizeBytes} bytes, the upstream says ${response.totalBytes}`,
      );
    }
    const writer = new RangeWriter(file, response.range.start, (range) => {
      this.#chunks.markFilled(range);
      this.growth.advance(this.#chunks.prefixEnd);
      this.#arrived.advance(this.#chunks.prefixEnd);
      this.#board.announce((position) => this.#readableEnd({ start: position, end: sizeBytes }) > position);
    });
    const isWhole = rangeLength(response.range) === sizeBytes;
    try {
      for await (const bytes of response.body) {
        signal.throwIfAborted();
        await writer.write(bytes);
        // The rest of this chunk was cut off for a reader and is brought by another request.
        if (!isWhole && chunk.filledEnd >= chunk.end) break;
      }
    } finally {
      // What has arrived counts, also when the transfer breaks: the next try begins behind it.
      await writer.flush();
    }
  }
}
