/** What goes to sockets in one turn of the event loop: some two milliseconds of copying. */
const TURN_BYTES = 2 * 2 ** 20;
/** The same while clients connect: libuv accepts one connection a turn. */
const SHORT_TURN_BYTES = TURN_BYTES / 16;

interface Waiting {
  readonly bytes: number;
  readonly start: () => void;
}

/**
 * Shares the turns of the event loop among the bodies that are sent. A client on a fast link takes a piece as soon as it is offered, and the
 * next one may be in memory: it would get all of its blob in one turn, while all others wait for their first byte.
 */
export class SendTurns {
  #leftBytes = TURN_BYTES;
  /** In the order in which they came. */
  readonly #waiting = new Set<Waiting>();
  #isTurning = false;
  #hasConnected = false;

  /** A client has connected; others may be waiting for that. */
  noteConnection(): void {
    this.#hasConnected = true;
  }

  /** When `bytes` may be sent: a promise, or nothing for now. They are sent as a whole, however many they are. */
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
