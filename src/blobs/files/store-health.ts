import { SpandrelError } from '../../core/errors.ts';
import type { Events } from '../../telemetry/events.ts';
import type { BlobDamage, StoredKind } from '../../telemetry/metrics.ts';

/** After a write has failed, nothing large is brought into the store for so long. */
const PAUSE_MS = 10_000;

/** What goes wrong with the store, from all who write and read it: counted, logged, and forgotten when it has passed. */
export class StoreHealth {
  readonly #events: Events;
  readonly #now: () => number;
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
      throw new SpandrelError('STORE_FULL', 'the disk has just failed: nothing is stored for a moment');
  }

  /** Something could not be written. A disk that stays full is logged now and then, not for each write. */
  noteWriteFailure(kind: StoredKind, error: unknown): void {
    const now = this.#now();
    this.#failedAtMs = now;
    const isLogged = now - (this.#loggedAtMs.get(kind) ?? Number.NEGATIVE_INFINITY) >= PAUSE_MS;
    if (isLogged) this.#loggedAtMs.set(kind, now);
    this.#events.storeWriteFailed(kind, error, isLogged);
  }

  /** Something that is stored is not what was stored. It is removed, and made or fetched again when it is next wanted. */
  noteDamage(kind: StoredKind, digest: string, damage: BlobDamage): void {
    this.#events.storedFileDamaged(kind, digest, damage);
  }
}
