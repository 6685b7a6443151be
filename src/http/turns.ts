/** Requests that are begun before timers and other connections get their turn. */
const MAX_OF_A_TURN = 16;

/**
 * Spreads requests that arrive together over turns of the event loop. Without it, all that hundreds of connections ask at once would be
 * begun in one turn, and whoever comes next, a health check too, would wait for all of it. Whoever finds room waits for nothing.
 */
export class Turns {
  readonly #waiting: (() => void)[] = [];
  #begun = 0;
  #isScheduled = false;

  /** Resolves when the request may begin, in the order of the calls; `undefined`: at once. */
  next(): Promise<void> | undefined {
    if (!this.#isScheduled) {
      this.#isScheduled = true;
      setImmediate(() => this.#endTurn());
    }
    if (this.#begun < MAX_OF_A_TURN && this.#waiting.length === 0) {
      this.#begun++;
      return undefined;
    }
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  #endTurn(): void {
    this.#isScheduled = false;
    const next = this.#waiting.splice(0, MAX_OF_A_TURN);
    this.#begun = next.length;
    if (next.length > 0) {
      this.#isScheduled = true;
      setImmediate(() => this.#endTurn());
    }
    for (const begin of next) begin();
  }
}
