/** Bytes without a reader, kept for later ones. */
export interface RestingBytes {
  readonly buffer: Buffer;
  /** The buffer is reused or freed: forget it. */
  forget(): void;
}

/** A few large reads cost less than many small ones, but each reader holds its buffer. */
const SIZES = [64 * 1024, 256 * 1024, 1024 * 1024] as const;
const DEFAULT_BUDGET_BYTES = 64 * 2 ** 20;

/**
 * Buffers for reads of blobs. Bytes stay until their buffer is needed, the least recently used are dropped
 * first: a new buffer costs more than reading a cached file into it. While many buffers are in use, new ones
 * are small, so that slow readers hold little. Unused buffers and those in use stay within one budget.
 */
export class ReadMemory {
  readonly #budgetBytes: number;
  /** Least recently used first. */
  readonly #resting = new Set<RestingBytes>();
  #usedBytes = 0;
  #restingBytes = 0;
  #inUse = 0;

  constructor(budgetBytes = DEFAULT_BUDGET_BYTES) {
    this.#budgetBytes = budgetBytes;
  }

  /** Number of buffers in use. */
  get inUse(): number {
    return this.#inUse;
  }

  /** Total size of the buffers in use. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** Size of the buffer for a read of `wantedBytes`. */
  sizeFor(wantedBytes: number): number {
    const [small, medium, large] = SIZES;
    const share = this.#usedBytes / this.#budgetBytes;
    const largest = share < 0.5 ? large : share < 1 ? medium : small;
    return SIZES.find((size) => size >= wantedBytes || size === largest) ?? largest;
  }

  /** Takes a buffer of a size that {@link sizeFor} returned. */
  claim(size: number): Buffer {
    this.#usedBytes += size;
    this.#inUse++;
    let reused: Buffer | undefined;
    for (const bytes of this.#resting) {
      if (this.#usedBytes + this.#restingBytes <= this.#budgetBytes) break;
      this.#leave(bytes);
      bytes.forget();
      if (bytes.buffer.byteLength === size) reused ??= bytes.buffer;
    }
    return reused ?? Buffer.allocUnsafeSlow(size);
  }

  /**
   * The bytes are no longer in use. @param mayStay whether the buffer may be reused and its content may be
   * read again
   */
  rest(bytes: RestingBytes, mayStay: boolean): void {
    const size = bytes.buffer.byteLength;
    this.#usedBytes -= size;
    this.#inUse--;
    if (!mayStay || this.#usedBytes + this.#restingBytes + size > this.#budgetBytes) {
      bytes.forget();
      return;
    }
    this.#resting.add(bytes);
    this.#restingBytes += size;
  }

  /** Kept bytes are in use again. */
  wake(bytes: RestingBytes): void {
    this.#leave(bytes);
    this.#inUse++;
    this.#usedBytes += bytes.buffer.byteLength;
  }

  #leave(bytes: RestingBytes): void {
    this.#resting.delete(bytes);
    this.#restingBytes -= bytes.buffer.byteLength;
  }
}
