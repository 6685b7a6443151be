/** `growing` until the last byte has arrived, then `complete`; `failed` if it will not arrive. */
export type GrowthState = 'growing' | 'complete' | 'failed';

const STATES: readonly GrowthState[] = ['growing', 'complete', 'failed'];
const STATE_BITS = 2n;

/**
 * Number of contiguous bytes at the start of a growing file. It is in shared memory: the fill advances it on
 * the event loop, and followers in worker threads wait for it without a message for each chunk. Count and
 * state share one cell, so that no change is missed between a load and a wait.
 */
export class Growth {
  /** Pass this to a worker, and wrap it there with `new Growth(shared)`. */
  readonly shared: SharedArrayBuffer;
  readonly #cell: BigInt64Array<SharedArrayBuffer>;

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(8)) {
    this.shared = shared;
    this.#cell = new BigInt64Array(shared);
  }

  /** The growth of a complete file. */
  static complete(sizeBytes: number): Growth {
    const growth = new Growth();
    growth.#store(sizeBytes, 'complete');
    return growth;
  }

  get availableBytes(): number {
    return Number(Atomics.load(this.#cell, 0) >> STATE_BITS);
  }

  get state(): GrowthState {
    return STATES[Number(Atomics.load(this.#cell, 0) & 3n)] ?? 'failed';
  }

  /** Announces that the bytes `[0, availableBytes)` are in the file. */
  advance(availableBytes: number): void {
    this.#store(availableBytes, this.state);
  }

  finish(state: 'complete' | 'failed'): void {
    this.#store(this.availableBytes, state);
  }

  /** Resolves when there are more than `knownBytes` bytes, or the growth has ended. */
  async waitBeyond(knownBytes: number): Promise<void> {
    for (;;) {
      const seen = Atomics.load(this.#cell, 0);
      if (Number(seen >> STATE_BITS) > knownBytes || (seen & 3n) !== 0n) return;
      const wait = Atomics.waitAsync(this.#cell, 0, seen);
      if (wait.async) await wait.value;
    }
  }

  #store(availableBytes: number, state: GrowthState): void {
    const value = (BigInt(availableBytes) << STATE_BITS) | BigInt(STATES.indexOf(state));
    if (value === Atomics.load(this.#cell, 0)) return;
    Atomics.store(this.#cell, 0, value);
    Atomics.notify(this.#cell, 0);
  }
}
