/** Bytes that go to sockets in one turn of the event loop: about two milliseconds of copying. */
const TURN_BYTES = 2 * 2 ** 20;
/** The same while clients connect: libuv accepts one connection a turn. */
const SHORT_TURN_BYTES = TURN_BYTES / 16;

interface Waiting {
  readonly bytes: number;
  readonly start: () => void;
}

/**
 * Shares each turn of the event loop among the bodies that are sent. A client on a fast link takes a chunk at
 * once, and the next chunk may be in memory. Without a bound it would receive its whole blob in one turn,
 * while all others wait for their first byte.
 */
export class SendTurns {
  #leftBytes = TURN_BYTES;
  /** First come, first served. */
  readonly #waiting = new Set<Waiting>();
  #isTurning = false;
  #hasConnected = false;

  /** A client has connected. More may be waiting, so the next turn is short. */
  noteConnection(): void {
    this.#hasConnected = true;
  }

  /**
   * Ask to send a chunk of any size; it is sent whole.
   * @returns a promise if the chunk must wait for a later turn
   */
  take(bytes: number): Promise<void> | undefined {
    this.#awaitTurn();
    if (this.#leftBytes <= 0 || this.#waiting.size > 0)
      return new Promise((start) => this.#waiting.add({ bytes, start }));
    this.#leftBytes -= bytes;
    return undefined;
  }

  #awaitTurn(): void {
    if (this.#isTurning) return;
    this.#isTurning = true;
    setImmediate(() => this.#begin());
  }

  #begin(): void {
    this.#isTurning = false;
    this.#leftBytes = this.#hasConnected ? SHORT_TURN_BYTES : TURN_BYTES;
    this.#hasConnected = false;
    for (const waiting of this.#waiting) {
      if (this.#leftBytes <= 0) break;
      this.#waiting.delete(waiting);
      this.#leftBytes -= waiting.bytes;
      waiting.start();
    }
    if (this.#waiting.size > 0) this.#awaitTurn();
  }
}
