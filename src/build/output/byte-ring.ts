import { SpandrelError } from '../../core/errors.ts';

const CAPACITY_BYTES = 4 * 2 ** 20;
/**
 * The writer wakes the reader once per this many bytes: waking a thread takes longer than hashing a few KiB.
 */
const WAKE_BYTES = CAPACITY_BYTES / 4;
/** A thread that makes no progress for this long is given up. */
const STALL_MS = 60_000;

// Cells: the positions of writer and reader. Positions count modulo 2^31, a multiple of the capacity. The
// lowest bit of the first cell marks the end, so that a waiter cannot miss it between checking and waiting.
const WRITTEN = 0;
const READ = 1;
/** 1 once a reader has claimed the ring. */
const READER = 2;
const HEAD_CELLS = 3;
const HEAD_BYTES = 16;
const ENDED = 1;

/**
 * A pipe in shared memory between two threads. Both block when they must wait: for worker threads, never for
 * the event loop.
 */
export class ByteRing {
  /** Send this to the other thread and wrap it there. */
  readonly shared: SharedArrayBuffer;
  readonly #head: Int32Array<SharedArrayBuffer>;
  readonly #bytes: Buffer<SharedArrayBuffer>;

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(HEAD_BYTES + CAPACITY_BYTES)) {
    this.shared = shared;
    this.#head = new Int32Array(shared, 0, HEAD_CELLS);
    this.#bytes = Buffer.from(shared, HEAD_BYTES);
  }

  /**
   * Copies all of `bytes` into the pipe, waiting for room.
   * @throws SpandrelError WORKER_FAILED if the reader has stopped
   */
  write(bytes: Uint8Array): void {
    // `copy` moves blocks; `set` writes shared memory byte by byte, six times slower.
    const source = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    for (let at = 0; at < bytes.length;) {
      const written = Atomics.load(this.#head, WRITTEN) >>> 1;
      const read = Atomics.load(this.#head, READ);
      const room = CAPACITY_BYTES - distance(read, written);
      if (room === 0) {
        Atomics.notify(this.#head, WRITTEN);
        if (Atomics.wait(this.#head, READ, read, STALL_MS) !== 'timed-out') continue;
        throw new SpandrelError('WORKER_FAILED', 'the thread that reads a pipe has stopped reading');
      }
      const start = written % CAPACITY_BYTES;
      const copied = source.copy(this.#bytes, start, at, at + Math.min(room, CAPACITY_BYTES - start));
      at += copied;
      const end = written + copied;
      Atomics.store(this.#head, WRITTEN, end << 1);
      if (Math.floor(end / WAKE_BYTES) > Math.floor(written / WAKE_BYTES))
        Atomics.notify(this.#head, WRITTEN);
    }
  }

  /**
   * Makes the caller the reader.
   * @returns false if there is a reader already
   */
  claim(): boolean {
    const isFirst = Atomics.compareExchange(this.#head, READER, 0, 1) === 0;
    if (isFirst) Atomics.notify(this.#head, READER);
    return isFirst;
  }

  /** Resolves when there is a reader, or after `ms`. */
  async waitForReader(ms: number): Promise<void> {
    await Atomics.waitAsync(this.#head, READER, 0, ms).value;
  }

  /** Marks the end of the data. */
  end(): void {
    Atomics.or(this.#head, WRITTEN, ENDED);
    Atomics.notify(this.#head, WRITTEN);
  }

  /** The data, piece by piece; a piece is valid until the next one is requested. */
  *read(): Generator<Uint8Array<SharedArrayBuffer>, void, void> {
    for (;;) {
      const cell = Atomics.load(this.#head, WRITTEN);
      const read = Atomics.load(this.#head, READ);
      const available = distance(read, cell >>> 1);
      if (available === 0) {
        if (cell & ENDED) return;
        Atomics.wait(this.#head, WRITTEN, cell);
        continue;
      }
      const start = read % CAPACITY_BYTES;
      const part = this.#bytes.subarray(start, Math.min(start + available, CAPACITY_BYTES));
      yield part;
      Atomics.store(this.#head, READ, (read + part.length) & 0x7fff_ffff);
      Atomics.notify(this.#head, READ);
    }
  }
}

function distance(read: number, written: number): number {
  return (written - read) & 0x7fff_ffff;
}
