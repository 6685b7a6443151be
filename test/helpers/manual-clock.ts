import type { Clock } from '../../src/demo/clock.ts';

/** Time that stands still until it is moved. Sleepers whose time has come go on in the order of their times. */
export class ManualClock implements Clock {
  #nowMs = 1_000_000;
  #sleepers: { readonly wakeMs: number; readonly wake: () => void }[] = [];

  now(): number {
    return this.#nowMs;
  }

  /** When the sleepers want to be woken, from now, in the order of their calls. */
  get sleepersMs(): number[] {
    return this.#sleepers.map(({ wakeMs }) => wakeMs - this.#nowMs);
  }

  sleep(durationMs: number, signal?: AbortSignal): Promise<void> {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.#sleepers.push({ wakeMs: this.#nowMs + durationMs, wake: resolve });
    signal?.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
    return promise;
  }

  /** Let so much time go by. */
  advance(durationMs: number): void {
    this.#nowMs += durationMs;
    const due = this.#sleepers.filter(({ wakeMs }) => wakeMs <= this.#nowMs);
    this.#sleepers = this.#sleepers.filter(({ wakeMs }) => wakeMs > this.#nowMs);
    for (const { wake } of due.toSorted((a, b) => a.wakeMs - b.wakeMs)) wake();
  }
}
