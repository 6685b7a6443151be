import type { StartClock } from '../../../src/boot/starts/start-watch.ts';

/** Time of starts of containers: it stands still until a test lets it go by. */
export class ManualStartClock implements StartClock {
  readonly lookMs = 20;
  #nowMs = 0;

  now(): number {
    return this.#nowMs;
  }

  /** The starts so far are over. */
  endStarts(): void {
    this.#nowMs += 31_000;
  }
}
