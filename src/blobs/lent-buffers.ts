/** A buffer that is to be given back, and what of it is wanted. */
export interface LentBuffer extends Disposable {
  /** As long as was asked for, or shorter. */
  readonly bytes: Buffer;
  /** Whoever had the bytes is done with them. Disposing of it without this leaves the buffer to the garbage collector. */
  finish(): void;
}

/** Few large reads cost less than many small ones, but each reader holds what it reads. */
const SIZES = [64 * 1024, 256 * 1024, 1024 * 1024] as const;
const DEFAULT_BUDGET_BYTES = 64 * 2 ** 20;

/**
 * Buffers that are filled again and again: a fresh one of this size costs more than the reading of a cached file into it. While
 * many are lent they are small ones, so that slow readers hold little; what is kept for later stays within the budget.
 */
export class LentBuffers {
  readonly #budgetBytes: number;
  readonly #free = new Map<number, Buffer[]>(SIZES.map((size) => [size, []]));
  #lentBytes = 0;
  #freeBytes = 0;

  constructor(budgetBytes = DEFAULT_BUDGET_BYTES) {
    this.#budgetBytes = budgetBytes;
  }

  /** Bytes of the buffers that are out. */
  get lentBytes(): number {
    return this.#lentBytes;
  }

  lend(wantedBytes: number): LentBuffer {
    const size = this.#sizeFor(wantedBytes);
    const kept = this.#free.get(size)?.pop();
    if (kept !== undefined) this.#freeBytes -= size;
    const buffer = kept ?? Buffer.allocUnsafeSlow(size);
    this.#lentBytes += size;
    let isOut = true;
    const end = (): boolean => {
      if (!isOut) return false;
      isOut = false;
      this.#lentBytes -= size;
      return true;
    };
    return {
      bytes: buffer.subarray(0, Math.min(wantedBytes, size)),
      finish: () => {
        if (end()) this.#keep(buffer);
      },
      [Symbol.dispose]: () => void end(),
    };
  }

  #sizeFor(wantedBytes: number): number {
    const [small, medium, large] = SIZES;
    const share = this.#lentBytes / this.#budgetBytes;
    const largest = share < 0.5 ? large : share < 1 ? medium : small;
    return SIZES.find((size) => size >= wantedBytes || size === largest) ?? largest;
  }

  #keep(buffer: Buffer): void {
    if (this.#lentBytes + this.#freeBytes + buffer.byteLength > this.#budgetBytes) return;
    this.#free.get(buffer.byteLength)?.push(buffer);
    this.#freeBytes += buffer.byteLength;
  }
}
