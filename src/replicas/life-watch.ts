import { LOOK_MS, MAX_SILENT_LOOKS } from './leases.ts';

/** What a look at a silent replica finds; `unknown` without Redis. */
export type LifeSign = 'alive' | 'silent' | 'unknown';

const MAX_UNKNOWN = 8;

/**
 * Watches a replica while it owes bytes. A replica that waits for a slow upstream shows signs of life and may
 * take its time; one that is dead, frozen or cut off does not.
 */
export class LifeWatch implements Disposable {
  /** Aborts when the replica is taken for dead. */
  readonly signal: AbortSignal;
  readonly #controller = new AbortController();
  readonly #look: (quietLooks: number) => Promise<LifeSign>;
  readonly #until: AbortSignal;
  readonly #timer: NodeJS.Timeout;
  #isOwing = true;
  #isLooking = false;
  #quietLooks = 0;
  #silent = 0;
  #unknown = 0;

  /**
   * @param look receives the number of looks since the last byte
   * @param until ends the watch, as disposal does
   */
  constructor(look: (quietLooks: number) => Promise<LifeSign>, until: AbortSignal) {
    this.#until = until;
    this.signal = this.#controller.signal;
    this.#look = look;
    this.#timer = setInterval(() => void this.#tick(), LOOK_MS).unref();
  }

  /** Yields `body`. While its reader is busy, the replica owes nothing. */
  async *watch(body: AsyncIterable<Buffer>): AsyncGenerator<Buffer, void, undefined> {
    this.#heard();
    for await (const bytes of body) {
      this.#heard();
      this.#isOwing = false;
      yield bytes;
      this.#isOwing = true;
    }
  }

  #heard(): void {
    this.#quietLooks = 0;
    this.#silent = 0;
    this.#unknown = 0;
  }

  async #tick(): Promise<void> {
    if (this.#until.aborted) this[Symbol.dispose]();
    if (this.#until.aborted || !this.#isOwing || this.#isLooking) return;
    this.#quietLooks++;
    this.#isLooking = true;
    const sign = await this.#look(this.#quietLooks);
    this.#isLooking = false;
    // Bytes may have arrived meanwhile.
    if (this.#quietLooks === 0) return;
    if (sign === 'alive') this.#silent = this.#unknown = 0;
    else if (sign === 'silent') this.#silent++;
    else this.#unknown++;
    if (this.#silent >= MAX_SILENT_LOOKS || this.#unknown >= MAX_UNKNOWN)
      this.#controller.abort(new Error('the replica shows no sign of life'));
  }

  [Symbol.dispose](): void {
    clearInterval(this.#timer);
  }
}
