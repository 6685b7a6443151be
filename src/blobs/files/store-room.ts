import { rm } from 'node:fs/promises';

import type { Digest } from '../../core/digest.ts';
import { isSpandrelError, type SpandrelError } from '../../core/errors.ts';
import { nodeErrorCode } from '../../core/node-error-code.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { BlobLedger } from './blob-ledger.ts';
import type { OpenFiles } from './open-files.ts';
import { removePartial } from './partial-file.ts';
import { Removals } from './removals.ts';
import type { StoreHealth } from './store-health.ts';
import { StoreBudget, type StoredBlob } from './store-budget.ts';
import { storeFault } from './store-fault.ts';
import { digestOfKey, type StoreKey } from './store-key.ts';
import type { StoreLayout } from './store-layout.ts';

export interface StoreRoomOptions {
  readonly maxBytes: number;
  /** As {@link StoreBudget}. */
  readonly otherBytes?: (() => number) | undefined;
  readonly layout: StoreLayout;
  readonly files: OpenFiles;
  readonly ledger: BlobLedger;
  readonly events: Events;
  readonly logger: Logger;
  readonly health: StoreHealth;
  /** Releases blobs that are held without a reader; resolves to false if there are none. */
  readonly releaseIdle: () => Promise<boolean>;
}

type Hold = (before: StoredBlob | undefined) => StoredBlob | undefined;

/** Manages the room of the store: reserves room for arriving content and evicts blobs for it. */
export class StoreRoom implements AsyncDisposable {
  readonly budget: StoreBudget;
  readonly #layout: StoreLayout;
  readonly #files: OpenFiles;
  readonly #ledger: BlobLedger;
  readonly #events: Events;
  readonly #health: StoreHealth;
  readonly #removals: Removals;
  readonly #releaseIdle: () => Promise<boolean>;
  /** Number of users of each partial file's path. */
  readonly #pathUsers = new Map<string, number>();
  readonly #turns = new Map<Digest, Promise<void>>();

  constructor(options: StoreRoomOptions) {
    const { maxBytes, otherBytes, layout, files, ledger, events, logger, health, releaseIdle } = options;
    this.budget = new StoreBudget(maxBytes, otherBytes);
    this.#removals = new Removals({ logger });
    this.#layout = layout;
    this.#files = files;
    this.#ledger = ledger;
    this.#events = events;
    events.storeLimited(maxBytes);
    this.#health = health;
    this.#releaseIdle = releaseIdle;
  }

  /** @throws SpandrelError STORE_FULL after a failed write, for a while */
  assertUsable(): void {
    this.#health.assertWritable();
  }

  /**
   * Reserves room for a blob, and evicts others for it. Planning, reserving and forgetting the victims are
   * one step, so that concurrent calls do not reserve the same room.
   * @param hold returns what to hold, given what is held now; `undefined` changes nothing
   * @returns releases the blob: until then it is not evicted
   * @throws SpandrelError STORE_FULL if content in use leaves no room, STORE_FAILED
   */
  async take(key: StoreKey, hold: Hold): Promise<() => void> {
    try {
      return await this.#takeNow(key, hold);
    } catch (error) {
      if (!isSpandrelError(error, 'STORE_FULL') || !(await this.#releaseIdle())) throw error;
      return this.#takeNow(key, hold);
    }
  }

  async #takeNow(key: StoreKey, hold: Hold): Promise<() => void> {
    const before = this.budget.get(key);
    const blob = hold(before);
    if (blob === undefined) return () => undefined;
    let unpin = this.budget.pin(key);
    try {
      const victims = this.budget.planEviction(blob.heldBytes - (before?.heldBytes ?? 0));
      this.budget.set(key, blob);
      unpin();
      unpin = this.budget.pin(key);
      for (const victim of victims) this.budget.remove(victim.key);
      await Promise.all(victims.map((victim) => this.#removeFiles(victim.key, victim.blob, 'evicted')));
      return unpin;
    } catch (error) {
      unpin();
      if (before === undefined) this.budget.remove(key);
      else this.budget.set(key, before);
      throw storeFault(error, 'make room');
    } finally {
      this.updateMetrics();
    }
  }

  /** Evicts until the store is within its limit, as far as content in use allows. */
  async trim(): Promise<void> {
    for (const { key } of this.budget.planRelief()) await this.remove(key, 'evicted');
  }

  async remove(key: StoreKey, why: 'evicted' | 'unusable' = 'unusable'): Promise<void> {
    const blob = this.budget.get(key);
    if (blob === undefined) return;
    this.budget.remove(key);
    this.updateMetrics();
    await this.#removeFiles(key, blob, why);
  }

  /** Call after a failed write. If the disk is full, evicts up to `bytes` so that later fills can succeed. */
  async relieve(error: SpandrelError, bytes: number): Promise<void> {
    if (nodeErrorCode(error.cause) === '') return;
    this.#health.noteWriteFailure('blob', error);
    if (error.code !== 'STORE_FULL') return;
    for (const { key } of this.budget.planRelief(bytes)) await this.remove(key, 'evicted');
  }

  /** Runs one task at a time for each digest: several upstreams may complete the same blob. */
  async inTurn(digest: Digest, work: () => Promise<void>): Promise<void> {
    const turn = Promise.resolve(this.#turns.get(digest)).then(work);
    const over = turn.catch(() => undefined);
    this.#turns.set(digest, over);
    try {
      await turn;
    } finally {
      if (this.#turns.get(digest) === over) this.#turns.delete(digest);
    }
  }

  /** Adds a user of the path. The returned function removes it, and returns true for the last one. */
  holdPath(path: string): () => boolean {
    this.#pathUsers.set(path, (this.#pathUsers.get(path) ?? 0) + 1);
    return () => {
      const left = (this.#pathUsers.get(path) ?? 1) - 1;
      if (left > 0) this.#pathUsers.set(path, left);
      else this.#pathUsers.delete(path);
      return left === 0;
    };
  }

  updateMetrics(): void {
    const { completeBytes: complete, partialBytes: partial } = this.budget;
    this.#events.storeChanged({ complete, partial });
  }

  /** A file that cannot be removed no longer counts as part of the store. */
  async #removeFiles(key: StoreKey, blob: StoredBlob, why: 'evicted' | 'unusable'): Promise<void> {
    const digest = digestOfKey(key);
    if (why === 'evicted') this.#events.evicted('disk');
    if (blob.partialPath === undefined) this.#ledger.forget(digest);
    if (blob.partialPath === undefined) await this.discardBlob(digest);
    else await this.discardPartial(blob.partialPath);
  }

  /** Removes the files of a partial blob, now or later. */
  discardPartial(path: string): Promise<void> {
    return this.#removals.run(path, () => removePartial(path));
  }

  /** Removes the file of a complete blob that is not in the budget, now or later. */
  discardBlob(digest: Digest): Promise<void> {
    const path = this.#layout.blobPath(digest);
    const remove = (): Promise<void> => this.removeFile(path);
    const removeIfUnused = async (): Promise<void> => {
      const there = this.budget.get(digest);
      if (there === undefined || there.partialPath !== undefined) await remove();
    };
    return this.#removals.run(path, remove, () => this.inTurn(digest, removeIfUnused));
  }

  /** Removes whatever is in the place of a complete blob. */
  async removeFile(path: string): Promise<void> {
    await this.#files.forget(path);
    await rm(path, { force: true, recursive: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#removals[Symbol.asyncDispose]();
  }
}
