import type { ByteRange } from '../../core/byte-range.ts';
import { intersectRanges, rangeLength } from '../../core/byte-range.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { BlobResponse, BlobSource } from '../../core/sources/blob-source.ts';
import { isBrokenTransfer } from '../../upstream/faults/is-upstream-away.ts';
import { backoffMs, realPause } from '../../upstream/transport/backoff-ms.ts';
import { checkTotalBytes } from './check-total-bytes.ts';
import type { Chunk, ChunkMap } from './chunk-map.ts';
import { PaceGuard } from './pace-guard.ts';
import type { PartialFile } from '../files/partial-file.ts';
import { RangeWriter } from './range-writer.ts';

export interface ChunkFetchesOptions {
  readonly source: BlobSource;
  readonly file: PartialFile;
  readonly chunks: ChunkMap;
  /** Concurrent requests; as many more are sent for readers that wait for bytes of none of them. */
  readonly parallel: number;
  /** Time in which a request must bring a minimum of bytes. */
  readonly stallTimeoutMs: number;
  /** Ranges that readers want now. */
  readonly wanted: () => Iterable<ByteRange>;
  /** Reserves room for bytes without a reservation; a negative number releases it. */
  readonly reserve: (bytes: number) => Promise<void>;
  /** Called when unproven bytes arrive: no reader may see any before the whole blob is verified. */
  readonly withhold: () => Promise<void>;
  /** Called when more bytes are in the file. */
  readonly onArrival: () => void;
}

/**
 * Attempts at one range whose transfer breaks without progress. The transport retries the requests
 * themselves.
 */
const MAX_TRIES = 4;
/** A request with fewer missing bytes is not aborted, even without readers: a connection is worth more. */
const LAST_BYTES = 256 * 1024;
/** An attempt that brought this much counts as progress. */
const PROGRESS_BYTES = 64 * 1024;

/** A response that has arrived already, and the controller of its request. */
export interface FirstResponse {
  readonly response: BlobResponse;
  readonly request: AbortController;
}

interface Task {
  readonly chunk: Chunk;
  readonly settled: Promise<void>;
}

/**
 * Sends the requests of a fill, several ranges at a time: those that readers wait for first, then in order.
 */
export class ChunkFetches {
  readonly #options: ChunkFetchesOptions;
  readonly #tasks = new Map<AbortController, Task>();
  readonly #over = Promise.withResolvers<void>();
  #wantsAll: boolean;
  #isSequential = false;
  #isRunning = false;
  /** Until the first response only one request runs, so that the others find where its redirect led. */
  #hasResponse = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(options: ChunkFetchesOptions, wantsAll: boolean) {
    this.#options = options;
    this.#wantsAll = wantsAll;
  }

  /**
   * Resolves when all chunks have arrived, or after {@link stop}; nothing is written after that.
   * @param first response with the start of the blob, or all of it
   * @throws the error of a request that failed for good; the error given to {@link stop}
   */
  async run(first: FirstResponse | undefined): Promise<void> {
    this.#isRunning = true;
    const chunk = first === undefined ? undefined : this.#options.chunks.claimWanted([first.response.range]);
    if (chunk !== undefined && first !== undefined) {
      this.#isSequential = first.response.range.end > chunk.end;
      this.#hasResponse = true;
      this.#begin(chunk, first);
    } else {
      first?.request.abort(new Error('no reader wants the bytes'));
    }
    this.#pump();
    await this.#over.promise;
  }

  /** Fetches also what no reader wants. */
  fetchAll(): void {
    this.#wantsAll = true;
    this.#pump();
  }

  /**
   * A reader waits at `position`. Without this call it would wait for running requests, which may hang, and
   * for the rest of their chunks.
   */
  hurry(position: number): void {
    this.#pump();
    if (!this.#isRunning || this.#isSequential || this.#tasks.size >= 2 * this.#options.parallel) return;
    const { chunks, wanted } = this.#options;
    const chunk = this.#wantsAll ? chunks.claimAt(position) : chunks.claimWanted(wanted());
    if (chunk !== undefined) this.#begin(chunk);
  }

  /**
   * Aborts the requests that are not nearly done; {@link hurry} starts new ones.
   * @returns false, without aborting any, if one request brings the whole blob: it could only start over
   */
  pause(): boolean {
    if (this.#isSequential) return false;
    for (const [controller, { chunk }] of this.#tasks)
      if (chunk.end - chunk.filledEnd > LAST_BYTES) controller.abort(new Error('no reader wants the bytes'));
    return true;
  }

  /** Aborts all requests. Arrived bytes stay. */
  stop(error?: unknown): void {
    this.#isRunning = false;
    if (error !== undefined) this.#failure ??= { error };
    for (const controller of this.#tasks.keys())
      controller.abort(error ?? new Error('no reader wants the bytes'));
    this.#settleIfOver();
  }

  #pump(): void {
    if (!this.#isRunning) return;
    const { chunks, parallel, wanted } = this.#options;
    const most = this.#isSequential || !this.#hasResponse ? 1 : parallel;
    while (this.#tasks.size < most) {
      const chunk = this.#wantsAll ? chunks.claimNext(wanted()) : chunks.claimWanted(wanted());
      if (chunk === undefined) break;
      this.#begin(chunk);
    }
    this.#settleIfOver();
  }

  #settleIfOver(): void {
    if (this.#tasks.size > 0) return;
    if (this.#options.chunks.isComplete) this.#isRunning = false;
    if (this.#failure !== undefined) this.#over.reject(this.#failure.error);
    else if (!this.#isRunning) this.#over.resolve();
  }

  #begin(chunk: Chunk, first?: FirstResponse): void {
    const controller = new AbortController();
    // The task must be registered first.
    const settled = Promise.resolve()
      .then(() => this.#fetchChunk(chunk, first, controller))
      .catch((error: unknown) => {
        // An unread response would keep its connection.
        first?.request.abort(error);
        // A request that was aborted here has not failed.
        if (!controller.signal.aborted) this.stop(error);
      })
      .then(() => {
        this.#options.chunks.release(chunk);
        this.#tasks.delete(controller);
        this.#pump();
        this.#settleIfOver();
      });
    this.#tasks.set(controller, { chunk, settled });
  }

  async #fetchChunk(
    chunk: Chunk,
    first: FirstResponse | undefined,
    controller: AbortController,
  ): Promise<void> {
    if (chunk.stored !== undefined && (await this.#takeStored(chunk))) return;
    const isReserved = !this.#wantsAll;
    if (isReserved) await this.#options.reserve(chunk.end - chunk.filledEnd);
    try {
      await this.#fetchMissing(chunk, first, controller);
    } finally {
      // A later reader of the rest reserves room again. For the whole blob it is reserved once.
      const missingBytes = chunk.end - chunk.filledEnd;
      if (missingBytes > 0 && isReserved && !this.#wantsAll) await this.#options.reserve(-missingBytes);
    }
  }

  async #fetchMissing(
    chunk: Chunk,
    first: FirstResponse | undefined,
    controller: AbortController,
  ): Promise<void> {
    const { signal } = controller;
    let given = first;
    for (let attempt = 1; chunk.filledEnd < chunk.end; attempt++) {
      const before = chunk.filledEnd;
      const guard = new PaceGuard(this.#options.stallTimeoutMs, signal, given?.request);
      try {
        const response =
          given?.response ?? (await this.#request({ start: chunk.filledEnd, end: chunk.end }, guard.signal));
        await this.#receive(response, chunk, controller, guard);
        // A response may be valid and shorter than the range.
        attempt = 0;
      } catch (error) {
        guard.cancel();
        if (chunk.filledEnd - before >= PROGRESS_BYTES) attempt = 1;
        if (!isBrokenTransfer(error) || attempt === MAX_TRIES) throw error;
        await realPause(backoffMs(attempt - 1), signal);
      } finally {
        guard.end();
      }
      given = undefined;
    }
  }

  /** Uses the stored piece of an earlier fill if it is intact. */
  async #takeStored(chunk: Chunk): Promise<boolean> {
    const { chunks, file, onArrival } = this.#options;
    if (chunk.stored !== undefined && (await isIntact(file, chunk.stored))) {
      chunks.markFilled({ start: chunk.start, end: chunk.end });
      onArrival();
      return true;
    }
    chunks.forgetStored(chunk);
    return false;
  }

  #request(range: ByteRange, signal: AbortSignal): Promise<BlobResponse> {
    const { sizeBytes } = this.#options.chunks;
    const isWhole = rangeLength(range) === sizeBytes;
    return this.#options.source.fetch(isWhole ? undefined : range, signal, sizeBytes);
  }

  /**
   * Writes the missing bytes of `chunk` from a body. Only the body of the only request may also fill later
   * chunks. Arrived bytes are never written again: they may have been hashed, and another response may
   * differ.
   */
  async #receive(
    response: BlobResponse,
    chunk: Chunk,
    controller: AbortController,
    guard: PaceGuard,
  ): Promise<void> {
    const { file, chunks, onArrival } = this.#options;
    controller.signal.throwIfAborted();
    checkTotalBytes(response, chunks.sizeBytes);
    if (response.isUnproven === true) {
      await this.#options.withhold();
      // Readers of a part wait for the whole blob, so all of it is needed.
      await this.#reserveAll();
    }
    // An upstream that ignores ranges always sends everything, so one response is enough.
    const isMore = response.range.start < chunk.filledEnd || response.range.end > chunk.end;
    if (isMore && !this.#isSequential) await this.#goOnAlone(controller);
    if (this.#isSequential) await this.#reserveAll();
    this.#hasResponse = true;
    this.#pump();
    const start = this.#isSequential ? Math.max(response.range.start, chunks.prefixEnd) : chunk.filledEnd;
    const end = this.#isSequential ? chunks.missingEnd(start) : chunk.end;
    const missing = intersectRanges({ start, end }, response.range);
    const writer = new RangeWriter(file, missing.start, (range) => {
      chunks.markFilled(range);
      onArrival();
    });
    let position = response.range.start;
    try {
      for await (const bytes of guard.watch(response.body)) {
        const part = intersectRanges({ start: position, end: position + bytes.byteLength }, missing);
        if (part.end > part.start) {
          await writer.write(bytes.subarray(part.start - position, part.end - position));
        }
        position += bytes.byteLength;
        controller.signal.throwIfAborted();
        // The following bytes belong to another chunk.
        if (position >= missing.end && missing.end < response.range.end) break;
      }
    } finally {
      // Arrived bytes count even if the transfer breaks: the next attempt starts after them.
      await writer.flush();
    }
  }

  /** Aborts the other requests, which would bring the same bytes. */
  async #goOnAlone(own: AbortController): Promise<void> {
    this.#isSequential = true;
    const others = [...this.#tasks].filter(([controller]) => controller !== own);
    for (const [controller] of others) controller.abort(new Error('another request brings the whole blob'));
    await Promise.all(others.map(([, { settled }]) => settled));
  }

  async #reserveAll(): Promise<void> {
    if (this.#wantsAll) return;
    this.#wantsAll = true;
    await this.#options.reserve(this.#options.chunks.sizeBytes - this.#options.chunks.heldBytes);
  }
}

/** A piece that cannot be read counts as damaged. */
async function isIntact(file: PartialFile, piece: Parameters<PartialFile['isIntact']>[0]): Promise<boolean> {
  try {
    return await file.isIntact(piece);
  } catch (error) {
    if (!isSpandrelError(error, 'STORE_FAILED')) throw error;
    return false;
  }
}
