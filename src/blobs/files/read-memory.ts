/** Bytes that nobody reads at the moment. */
export interface RestingBytes {
  readonly buffer: Buffer;
  /** The buffer goes to somebody else, or away. */
  forget(): void;
}

/** Few large reads cost less than many small ones, but each reader holds what it reads. */
const SIZES = [64 * 1024, 256 * 1024, 1024 * 1024] as const;
const DEFAULT_BUDGET_BYTES = 64 * 2 ** 20;

/**
 * The buffers that blobs are read into. What has been read stays until its buffer is needed, the least recently used goes first: a fresh
 * buffer costs more than reading a cached file into it. While many are in use they are small ones, so that slow readers hold little;
 * what rests beside those in use stays within the budget.
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

  /** Buffers that are in use. */
  get inUse(): number {
    return this.#inUse;
  }

  /** Bytes of the buffers that are in use. */
  get usedBytes(): number {
    return this.#usedBytes;
  }

  /** How large a buffer a reader gets that wants so many bytes. */
  sizeFor(wantedBytes: number): number {
    const [small, medium, large] = SIZES;
    const share = this.#usedBytes / this.#budgetBytes;
    const largest = share < 0.5 ? large : share < 1 ? medium : small;
    return SIZES.find((size) => size >= wantedBytes || size === largest) ?? largest;
  }

  /** A buffer of a size that {@link sizeFor} gave, which is in use from now on. */
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

  /** What was in use is not any more. @param mayStay whether its buffer may be filled again, and what is in it be wanted again */
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

  /** What rested is in use again. */
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
