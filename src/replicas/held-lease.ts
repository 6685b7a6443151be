import type { Leases } from './leases.ts';

/** The least frequent sign of life that others take for one is a second. */
const RENEW_MS = 250;

/** A lease of this replica. It shows a sign of life until it is ended. */
export class HeldLease {
  readonly #leases: Leases;
  readonly #name: string;
  readonly #fence: string;
  readonly #timer: NodeJS.Timeout;
  #renewing: Promise<unknown> | undefined;
  #isLost = false;

  constructor(leases: Leases, name: string, fence: string) {
    this.#leases = leases;
    this.#name = name;
    this.#fence = fence;
    this.#timer = setInterval(() => this.#renew(), RENEW_MS).unref();
  }

  /** Another replica has taken it, since this one showed no sign of life. */
  get isLost(): boolean {
    return this.#isLost;
  }

  #renew(): void {
    this.#renewing ??= this.#leases
      .renew(this.#name, this.#fence)
      .then((isHeld) => {
        this.#isLost = isHeld === false;
        if (this.#isLost) clearInterval(this.#timer);
      })
      .finally(() => (this.#renewing = undefined));
  }

  /** As {@link Leases.end}. */
  async end(outcome: 'done' | 'undone'): Promise<void> {
    clearInterval(this.#timer);
    // A renewal that arrives later would write the record again.
    await this.#renewing;
    await this.#leases.end(this.#name, this.#fence, outcome);
  }
}
