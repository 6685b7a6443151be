import { SpandrelError } from '../../core/errors.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Metrics } from '../../telemetry/metrics.ts';
import { BLOB_DAMAGES, type BlobDamage } from './blob-damage.ts';

/** What the store keeps; label of its metrics. */
export type StoredKind = (typeof STORED_KINDS)[number];

const STORED_KINDS = ['blob', 'index', 'ztoc', 'manifest', 'tag', 'origin', 'proof', 'refusal'] as const;

/** After a write has failed, nothing large is brought into the store for so long. */
const PAUSE_MS = 10_000;

/** What goes wrong with the store, from all who write and read it: counted, logged, and forgotten when it has passed. */
export class StoreHealth {
  readonly #metrics: Metrics;
  readonly #logger: Logger;
  readonly #now: () => number;
  #failedAtMs = Number.NEGATIVE_INFINITY;
  readonly #loggedAtMs = new Map<StoredKind, number>();

  /** @param options.now milliseconds of any clock */
  constructor(options: {
    readonly metrics: Metrics;
    readonly logger: Logger;
    readonly now?: (() => number) | undefined;
  }) {
    this.#metrics = options.metrics;
    this.#logger = options.logger;
    this.#now = options.now ?? (() => performance.now());
    // An alert sees the first increase only of what has been there before.
    for (const kind of STORED_KINDS) {
      this.#metrics.storeWriteFailures.inc({ kind }, 0);
      for (const damage of BLOB_DAMAGES) this.#metrics.storeCondemned.inc({ kind, damage }, 0);
    }
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
    this.#metrics.storeWriteFailures.inc({ kind });
    const now = this.#now();
    this.#failedAtMs = now;
    if (now - (this.#loggedAtMs.get(kind) ?? Number.NEGATIVE_INFINITY) < PAUSE_MS) return;
    this.#loggedAtMs.set(kind, now);
    this.#logger.warn(
      { kind, err: error },
      'the store cannot be written, what is not in it is passed through',
    );
  }

  /** Something that is stored is not what was stored. It is removed, and made or fetched again when it is next wanted. */
  noteDamage(kind: StoredKind, digest: string, damage: BlobDamage): void {
    this.#metrics.storeCondemned.inc({ kind, damage });
    this.#logger.warn({ kind, digest, damage }, 'a file of the store is damaged, it will be replaced');
  }
}
