import { isSpandrelError, SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import { shortageOf } from '../../core/system/shortage.ts';
import type { Events } from '../../telemetry/events.ts';
import type { BlobDamage, StoredKind } from '../../telemetry/stored-kinds.ts';

/** How long after a failed write nothing large is stored. */
const PAUSE_MS = 10_000;

/** Counts and logs failures of the store, reported by everything that reads and writes it. */
export class StoreHealth {
  readonly #events: Events;
  readonly #now: () => number;
  #lastFault = '';
  #failedAtMs = Number.NEGATIVE_INFINITY;
  readonly #loggedAtMs = new Map<StoredKind, number>();

  /** @param options.now milliseconds of any clock */
  constructor(options: { readonly events: Events; readonly now?: (() => number) | undefined }) {
    this.#events = options.events;
    this.#now = options.now ?? (() => performance.now());
  }

  /** A write has failed within the last ten seconds. */
  get isFailing(): boolean {
    return this.#now() - this.#failedAtMs < PAUSE_MS;
  }

  /** @throws SpandrelError STORE_FULL while {@link isFailing} */
  assertWritable(): void {
    if (this.isFailing)
      throw new SpandrelError(
        'STORE_FULL',
        `the store is left alone for ${Math.ceil((this.#failedAtMs + PAUSE_MS - this.#now()) / 1000)} s: ` +
          `its last write failed (${this.#lastFault})`,
      );
  }

  /**
   * Records a failed write. If the disk stays full, this is logged from time to time, not for each write. A
   * shortage of the process is no fault of the store, which stays writable.
   */
  noteWriteFailure(kind: StoredKind, error: unknown): void {
    if (shortageOf(error) !== undefined) {
      this.#events.limits.failed(error);
      return;
    }
    const now = this.#now();
    this.#failedAtMs = now;
    const fault = isSpandrelError(error) && error.cause !== undefined ? error.cause : error;
    this.#lastFault = nodeErrorCode(fault) || 'unknown';
    const isLogged = now - (this.#loggedAtMs.get(kind) ?? Number.NEGATIVE_INFINITY) >= PAUSE_MS;
    if (isLogged) this.#loggedAtMs.set(kind, now);
    this.#events.storeWriteFailed(kind, error, isLogged);
  }

  /** Records damaged content. It is removed, and fetched or built again when it is next needed. */
  noteDamage(kind: StoredKind, digest: string, damage: BlobDamage): void {
    this.#events.storedFileDamaged(kind, digest, damage);
  }
}
