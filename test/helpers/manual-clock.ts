import type { Clock } from '../registry/clock.ts';

interface Sleeper {
  readonly wakeMs: number;
  readonly wake: () => void;
}

/**
 * Time that stands still until it is moved; sleepers whose time has come go on in the order of their times.
 * With `runs` it moves by itself to the next sleeper whenever there is nothing else to do.
 */
export class ManualClock implements Clock {
  readonly #runs: boolean;
  #nowMs = 1_000_000;
  #sleepers: Sleeper[] = [];
  #awaited: { readonly count: number; readonly resolve: () => void }[] = [];

  constructor({ runs = false } = {}) {
    this.#runs = runs;
  }

  now(): number {
    return this.#nowMs;
  }

  /** When the sleepers want to be woken, from now, in the order of their calls. */
  get sleepersMs(): number[] {
    return this.#sleepers.map(({ wakeMs }) => wakeMs - this.#nowMs);
  }

  /** Resolves when so many are asleep. */
  async asleep(count: number): Promise<void> {
    const { promise, resolve } = Promise.withResolvers<void>();
    this.#awaited.push({ count, resolve });
    this.#tell();
    await promise;
  }

  sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    const sleeper = { wakeMs: this.#nowMs + durationMs, wake: resolve };
    this.#sleepers.push(sleeper);
    const onAbort = (): void => {
      this.#sleepers = this.#sleepers.filter((other) => other !== sleeper);
      reject(signal?.reason as Error);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    if (this.#runs) setImmediate(() => this.#advanceToNext());
    this.#tell();
    return promise;
  }

  /** Let so much time go by. */
  advance(durationMs: number): void {
    this.#nowMs += durationMs;
    const due = this.#sleepers.filter(({ wakeMs }) => wakeMs <= this.#nowMs);
    this.#sleepers = this.#sleepers.filter(({ wakeMs }) => wakeMs > this.#nowMs);
    for (const { wake } of due.toSorted((a, b) => a.wakeMs - b.wakeMs)) wake();
  }

  #advanceToNext(): void {
    if (this.#sleepers.length > 0) this.advance(Math.max(0, Math.min(...this.sleepersMs)));
  }

  #tell(): void {
    for (const { count, resolve } of this.#awaited) if (this.#sleepers.length >= count) resolve();
    this.#awaited = this.#awaited.filter(({ count }) => this.#sleepers.length < count);
  }
}
