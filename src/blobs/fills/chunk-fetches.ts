import type { ByteRange } from '../../core/byte-range.ts';
import { intersectRanges, rangeLength } from '../../core/byte-range.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { BlobResponse, BlobSource } from '../../upstream/blobs/blob-source.ts';
import { isBrokenTransfer } from '../../upstream/faults/is-upstream-away.ts';
import { backoffMs, realPause } from '../../upstream/transport/backoff-ms.ts';
import { checkTotalBytes } from '../files/check-total-bytes.ts';
import type { Chunk, ChunkMap } from './chunk-map.ts';
import { PaceGuard } from './pace-guard.ts';
import type { PartialFile } from '../files/partial-file.ts';
import { RangeWriter } from './range-writer.ts';

export interface ChunkFetchesOptions {
  readonly source: BlobSource;
  readonly file: PartialFile;
  readonly chunks: ChunkMap;
  /** Requests at the same time; as many more are made for readers that wait for what none of those brings. */
  readonly parallel: number;
  /** In so much time a request must bring something worth waiting for. */
  readonly stallTimeoutMs: number;
  /** What readers want now. */
  readonly wanted: () => Iterable<ByteRange>;
  /** Keeps room for bytes that nobody has kept room for when the fill began, or, of a negative number, no more. */
  readonly reserve: (bytes: number) => Promise<void>;
  /** Unproven bytes arrive: no reader may see any before the whole blob is verified. */
  readonly withhold: () => Promise<void>;
  /** There are more bytes in the file. */
  readonly onArrival: () => void;
}

/** Tries of one range whose transfer breaks without having brought much; requests as such are repeated by the transport. */
const MAX_TRIES = 4;
/** What is missing is let come, though nobody wants it any more: a connection is worth it. */
const LAST_BYTES = 256 * 1024;
/** A try that has brought so much does not count. */
const PROGRESS_BYTES = 64 * 1024;

/** An answer that is there already, and what ends its request. */
export interface FirstAnswer {
  readonly response: BlobResponse;
  readonly request: AbortController;
}

interface Task {
  readonly chunk: Chunk;
  readonly settled: Promise<void>;
}

/** The requests of a fill: what readers wait for first, then in order, several ranges at a time. */
export class ChunkFetches {
  readonly #options: ChunkFetchesOptions;
  readonly #tasks = new Map<AbortController, Task>();
  readonly #over = Promise.withResolvers<void>();
  #wantsAll: boolean;
  #isSequential = false;
  #isRunning = false;
  /** Until the first answer there is one request, so that the others find where its redirect has led. */
  #hasAnswered = false;
  #failure: { readonly error: unknown } | undefined;

  constructor(options: ChunkFetchesOptions, wantsAll: boolean) {
    this.#options = options;
    this.#wantsAll = wantsAll;
  }

  /**
   * Resolves when all chunks are there, or after {@link stop}; nothing is written any more then.
   * @param first the beginning of the blob, or all of it
   * @throws what a request failed with when it could not be helped; what {@link stop} was given
   */
  async run(first: FirstAnswer | undefined): Promise<void> {
    this.#isRunning = true;
    const chunk = first === undefined ? undefined : this.#options.chunks.claimWanted([first.response.range]);
    if (chunk !== undefined && first !== undefined) {
      this.#isSequential = first.response.range.end > chunk.end;
      this.#hasAnswered = true;
      this.#begin(chunk, first);
    } else {
      first?.request.abort(new Error('nobody wants it'));
    }
    this.#pump();
    await this.#over.promise;
  }

  /** Fetch also what no reader wants. */
  fetchAll(): void {
    this.#wantsAll = true;
    this.#pump();
  }

  /**
   * A reader waits at `position`. Without this it would wait for requests that may hang, and for the rest of their chunks where
   * they do not.
   */
  hurry(position: number): void {
    this.#pump();
    if (!this.#isRunning || this.#isSequential || this.#tasks.size >= 2 * this.#options.parallel) return;
    const { chunks, wanted } = this.#options;
    const chunk = this.#wantsAll ? chunks.claimAt(position) : chunks.claimWanted(wanted());
    if (chunk !== undefined) this.#begin(chunk);
  }

  /**
   * End the requests that are not about to end; {@link hurry} makes new ones.
   * @returns false, having ended none, if one request brings the whole blob, which could only begin anew
   */
  pause(): boolean {
    if (this.#isSequential) return false;
    for (const [controller, { chunk }] of this.#tasks)
      if (chunk.end - chunk.filledEnd > LAST_BYTES) controller.abort(new Error('nobody wants it'));
    return true;
  }

  /** End all requests. What they have brought stays. */
  stop(error?: unknown): void {
    this.#isRunning = false;
    if (error !== undefined) this.#failure ??= { error };
    for (const controller of this.#tasks.keys()) controller.abort(error ?? new Error('nobody wants it'));
    this.#settleIfOver();
  }

  #pump(): void {
    if (!this.#isRunning) return;
    const { chunks, parallel, wanted } = this.#options;
    const most = this.#isSequential || !this.#hasAnswered ? 1 : parallel;
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

  #begin(chunk: Chunk, first?: FirstAnswer): void {
    const controller = new AbortController();
    // Not before the task is among the others.
    const settled = Promise.resolve()
      .then(() => this.#fetchChunk(chunk, first, controller))
      .catch((error: unknown) => {
        // What nobody has begun to read would keep its connection.
        first?.request.abort(error);
        // One that was ended from here has not failed.
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
    first: FirstAnswer | undefined,
    controller: AbortController,
  ): Promise<void> {
    if (chunk.stored !== undefined && (await this.#takeStored(chunk))) return;
    const isReserved = !this.#wantsAll;
    if (isReserved) await this.#options.reserve(chunk.end - chunk.filledEnd);
    try {
      await this.#fetchMissing(chunk, first, controller);
    } finally {
      // Whoever wants the rest later keeps room for it anew. For the whole blob it has been kept once.
      const missingBytes = chunk.end - chunk.filledEnd;
      if (missingBytes > 0 && isReserved && !this.#wantsAll) await this.#options.reserve(-missingBytes);
    }
  }

  async #fetchMissing(
    chunk: Chunk,
    first: FirstAnswer | undefined,
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
        // Less than the range may have come in good order.
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

  /** Use what an earlier fill has left of the chunk, if it is right. */
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
   * Write what `chunk` misses of a body. Only a body that comes alone may fill the chunks behind it too. Bytes that are there
   * are never written again: they may have been hashed, and another answer may have others.
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
      // Readers of a part wait for the whole blob, so all of it must come.
      await this.#reserveAll();
    }
    // An upstream that ignores ranges sends everything with every answer, so one of them is enough.
    const isMore = response.range.start < chunk.filledEnd || response.range.end > chunk.end;
    if (isMore && !this.#isSequential) await this.#goOnAlone(controller);
    if (this.#isSequential) await this.#reserveAll();
    this.#hasAnswered = true;
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
        // Whatever follows is not ours to write.
        if (position >= missing.end && missing.end < response.range.end) break;
      }
    } finally {
      // What has arrived counts, also when the transfer breaks: the next try begins behind it.
      await writer.flush();
    }
  }

  /** End the other requests, which bring the same bytes again. */
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

/** A file that cannot be read any more is as good as one that has other bytes. */
async function isIntact(file: PartialFile, piece: Parameters<PartialFile['isIntact']>[0]): Promise<boolean> {
  try {
    return await file.isIntact(piece);
  } catch (error) {
    if (!isSpandrelError(error, 'STORE_FAILED')) throw error;
    return false;
  }
}
