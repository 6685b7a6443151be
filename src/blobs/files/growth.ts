/** `growing` until the last byte is there, then `complete`, or `failed` when it will never come. */
export type GrowthState = 'growing' | 'complete' | 'failed';

const STATES: readonly GrowthState[] = ['growing', 'complete', 'failed'];
const STATE_BITS = 2n;

/**
 * How many bytes of a growing file are there, counted from its start without a gap. Lives in shared memory: the fill
 * advances it on the event loop, and followers in worker threads wait on it without a message for every chunk.
 * Count and state share one cell, so that no change can fall between looking and waiting.
 */
export class Growth {
  /** Hand this to a worker and wrap it there with `new Growth(shared)`. */
  readonly shared: SharedArrayBuffer;
  readonly #cell: BigInt64Array<SharedArrayBuffer>;

  constructor(shared: SharedArrayBuffer = new SharedArrayBuffer(8)) {
    this.shared = shared;
    this.#cell = new BigInt64Array(shared);
  }

  /** A file that is already whole. */
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

  /** Announce that the bytes `[0, availableBytes)` are in the file. */
  advance(availableBytes: number): void {
    this.#store(availableBytes, this.state);
  }

  finish(state: 'complete' | 'failed'): void {
    this.#store(this.availableBytes, state);
  }

  /** Resolves once there are more than `knownBytes` bytes, or the growth has ended. */
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
