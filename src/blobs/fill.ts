import type { ByteRange } from '../core/byte-range.ts';
import { intersectRanges, rangeLength } from '../core/byte-range.ts';
import { type Digest, digestAlgorithm } from '../core/digest.ts';
import { isSpandrelError, SpandrelError } from '../core/errors.ts';
import type { BlobResponse, BlobSource } from '../upstream/blob-source.ts';
import { backoffMs, realPause } from '../upstream/retry-delay.ts';
import type { AlternativeSources } from './alternative-sources.ts';
import { ArrivalBoard } from './arrival-board.ts';
import { type Chunk, ChunkMap } from './chunk-map.ts';
import type { DigestWorker } from './digest-worker.ts';
import { Growth } from './growth.ts';
import type { PartialFile } from './partial-file.ts';
import { RangeWriter } from './range-writer.ts';

export interface FillOptions {
  readonly digest: Digest;
  readonly sources: AlternativeSources;
  readonly file: PartialFile;
  readonly sizeBytes: number;
  /** An answer that is there already: the beginning of the blob, or all of it. */
  readonly first: BlobResponse | undefined;
  /** Requests at the same time; as many more are made for readers that wait for what none of those brings. */
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
  readonly #chunks: ChunkMap;
  readonly #board = new ArrivalBoard();
  /** What the digest is computed from: complete once all bytes are there. */
  readonly #arrived = new Growth();
  #isVerified = false;
  #isSequential = false;
  /** Fetches the chunk of a position at once, beside the others; there while chunks are being fetched. */
  #fetchUrgently: ((position: number) => void) | undefined;
  #failure: Error | undefined;

  constructor(options: FillOptions) {
    this.#options = options;
    this.#chunks = new ChunkMap(options.sizeBytes, options.chunkBytes);
  }

  /** Another repository that should have the blob. */
  addSource(source: BlobSource): void {
    this.#options.sources.add(source);
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
      const arrival = this.#board.wait(range, signal);
      this.#fetchUrgently?.(range.start);
      await arrival;
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
    this.#isSequential =
      first !== undefined &&
      first.range.start === 0 &&
      first.range.end === sizeBytes &&
      sizeBytes > chunkBytes;
    const tasks = new Set<Promise<void>>();
    const { promise: broken, reject } = Promise.withResolvers<never>();
    broken.catch(() => undefined);
    const begin = (task: Promise<void>): void => {
      const settled = task.catch(reject).finally(() => tasks.delete(settled));
      tasks.add(settled);
    };
    for (let place = 0; place < (this.#isSequential ? 1 : parallel); place++) {
      begin(this.#work(place === 0 ? first : undefined, signal));
    }
    if (!this.#isSequential) {
      // Without this a reader would wait for requests that may hang, and for the rest of their chunks where they do not.
      this.#fetchUrgently = (position) => {
        const chunk = tasks.size < 2 * parallel ? this.#chunks.claimAt(position) : undefined;
        if (chunk !== undefined) begin(this.#fetchClaimed(chunk, undefined, signal));
      };
    }
    try {
      while (tasks.size > 0) await Promise.race([broken, Promise.all(tasks)]);
    } catch (error) {
      this.#fetchUrgently = undefined;
      failed.abort(error);
      await Promise.all(tasks);
      throw error;
    } finally {
      this.#fetchUrgently = undefined;
    }
  }

  async #work(first: BlobResponse | undefined, signal: AbortSignal): Promise<void> {
    let response = first;
    for (let chunk = this.#claim(response); chunk !== undefined; chunk = this.#claim(response)) {
      await this.#fetchClaimed(chunk, response, signal);
      response = undefined;
    }
  }

  async #fetchClaimed(chunk: Chunk, first: BlobResponse | undefined, signal: AbortSignal): Promise<void> {
    try {
      await this.#fetchChunk(chunk, first, signal);
    } finally {
      this.#chunks.release(chunk);
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
        response ??= await this.#options.sources.fetch(
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
        await realPause(backoffMs(attempt - 1), signal);
      }
      response = undefined;
    }
  }

  /**
   * Write what `chunk` misses of a body. Only a body that comes alone may fill the chunks behind it too. Bytes that are there
   * are never written again: they may have been hashed, and another answer may have others.
   */
  async #receive(response: BlobResponse, chunk: Chunk, signal: AbortSignal): Promise<void> {
    const { sizeBytes, file } = this.#options;
    if (response.totalBytes !== sizeBytes) {
      throw new SpandrelError(
        'BLOB_CORRUPT',
        `the blob should have ${sizeBytes} bytes, the upstream says ${response.totalBytes}`,
      );
    }
    const start = this.#isSequential
      ? Math.max(response.range.start, this.#chunks.prefixEnd)
      : chunk.filledEnd;
    const end = this.#isSequential ? this.#chunks.missingEnd(start) : chunk.end;
    const missing = intersectRanges({ start, end }, response.range);
    const writer = new RangeWriter(file, missing.start, (range) => {
      this.#chunks.markFilled(range);
      this.growth.advance(this.#chunks.prefixEnd);
      this.#arrived.advance(this.#chunks.prefixEnd);
      this.#board.announce((position) => this.#readableEnd({ start: position, end: sizeBytes }) > position);
    });
    let position = response.range.start;
    try {
      for await (const bytes of response.body) {
        signal.throwIfAborted();
        const part = intersectRanges({ start: position, end: position + bytes.byteLength }, missing);
        if (part.end > part.start) {
          await writer.write(bytes.subarray(part.start - position, part.end - position));
        }
        position += bytes.byteLength;
        // Whatever follows is not ours to write.
        if (position >= missing.end && missing.end < response.range.end) break;
      }
    } finally {
      // What has arrived counts, also when the transfer breaks: the next try begins behind it.
      await writer.flush();
    }
  }
}
