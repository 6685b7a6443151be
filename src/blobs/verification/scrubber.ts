import { setTimeout as sleep } from 'node:timers/promises';

import type { Digest } from '../../core/digest.ts';
import { isSpandrelError } from '../../core/errors.ts';
import type { Logger } from '../../telemetry/logger.ts';
import type { Events } from '../../telemetry/events.ts';
import type { BlobLedger, ScrubPass } from '../files/blob-ledger.ts';
import type { CompleteBlobs } from './complete-blobs.ts';
import { Growth } from '../files/growth.ts';
import type { StoreBudget } from '../files/store-budget.ts';
import { digestOfKey } from '../files/store-key.ts';
import { isStoreFault } from '../files/store-fault.ts';

export interface ScrubSettings {
  readonly bytesPerSecond: number;
  /** Waits; rejects when the signal aborts. Tests replace it. */
  readonly pause?: (ms: number, signal: AbortSignal) => Promise<void>;
}

export interface ScrubberDeps extends ScrubSettings {
  readonly blobs: CompleteBlobs;
  readonly budget: StoreBudget;
  readonly ledger: BlobLedger;
  readonly events: Events;
  readonly logger: Logger;
  /** As {@link steadyNow}. */
  readonly now: () => number;
}

/** State of the scrub, as in `/api/v1/blobs`. */
export interface ScrubState {
  readonly bytesPerSecond: number;
  /** The current pass so far. */
  readonly running?: Omit<ScrubPass, 'finishedAtMs'>;
  readonly lastPass?: ScrubPass;
}

/** Bytes of this much time are read at once. */
const TICK_MS = 100;
/** Shortest time of a pass over a small store. */
const MIN_PASS_MS = 2_000;
/** Most blobs that are verified out of turn. */
const MAX_PREFERRED = 1_000;

/**
 * Verifies the blobs of the store continuously at a configured rate: those verified longest ago first; after
 * an unclean exit, the most recently used first. It neither keeps blobs from eviction nor counts as their
 * use.
 */
export class Scrubber implements AsyncDisposable {
  readonly #deps: ScrubberDeps;
  readonly #pause: NonNullable<ScrubSettings['pause']>;
  readonly #stopping = new AbortController();
  readonly #preferred = new Set<Digest>();
  /** Time that the bytes read so far should still take. */
  #owedMs = 0;
  #running: { startedAtMs: number; blobs: number; bytes: number; condemned: number } | undefined;
  readonly #over: Promise<void>;

  constructor(deps: ScrubberDeps) {
    this.#deps = deps;
    this.#pause = deps.pause ?? pauseIdly;
    this.#over = this.#run();
  }

  get state(): ScrubState {
    const { bytesPerSecond, ledger } = this.#deps;
    const { lastPass } = ledger;
    return {
      bytesPerSecond,
      ...(this.#running === undefined ? {} : { running: { ...this.#running } }),
      ...(lastPass === undefined ? {} : { lastPass }),
    };
  }

  /** Verifies a blob out of turn. */
  prefer(digest: Digest): void {
    if (this.#preferred.size < MAX_PREFERRED) this.#preferred.add(digest);
  }

  async #run(): Promise<void> {
    const { signal } = this.#stopping;
    try {
      for (let isFirst = true; ; isFirst = false) {
        const started = performance.now();
        await this.#pass(isFirst);
        await this.#pause(Math.max(TICK_MS, started + MIN_PASS_MS - performance.now()), signal);
      }
    } catch (error) {
      if (!signal.aborted && !isSpandrelError(error, 'SHUTTING_DOWN'))
        this.#deps.logger.error({ err: error }, 'the scrub of the store has failed');
    }
  }

  async #pass(isFirst: boolean): Promise<void> {
    const { ledger, budget, events, now } = this.#deps;
    const pass = { startedAtMs: now(), blobs: 0, bytes: 0, condemned: 0 };
    this.#running = pass;
    const all = Array.from(budget.entries(), ([key]) => digestOfKey(key));
    const byAge = ledger.byAge();
    const wanted = new Set(isFirst && ledger.wasUnclean ? all.toReversed() : [...byAge, ...all]);
    for (const next of wanted) {
      for (const digest of [...this.#preferred, next]) {
        this.#preferred.delete(digest);
        await this.#scrub(digest, pass);
      }
    }
    this.#running = undefined;
    ledger.lastPass = { ...pass, finishedAtMs: now() };
    events.scrubPassed();
  }

  async #scrub(digest: Digest, pass: { blobs: number; bytes: number; condemned: number }): Promise<void> {
    const { blobs, budget, bytesPerSecond, logger } = this.#deps;
    const blob = budget.get(digest);
    if (blob === undefined || blob.partialPath !== undefined) return;
    const growth = new Growth();
    const leaving = new AbortController();
    const signal = AbortSignal.any([leaving.signal, this.#stopping.signal]);
    const judging = blobs.judge(digest, blob, growth, signal);
    judging.catch(() => undefined);
    try {
      for (let position = 0; position < blob.sizeBytes;) {
        const end = Math.min(blob.sizeBytes, position + Math.ceil((bytesPerSecond * TICK_MS) / 1000));
        growth.advance(end);
        await this.#pay(end - position, pass);
        position = end;
        // Evicted, or replaced.
        if (budget.get(digest) !== blob) return;
      }
      growth.finish('complete');
      pass.blobs++;
      if (!(await judging)) pass.condemned++;
    } catch (error) {
      this.#stopping.signal.throwIfAborted();
      if (!isStoreFault(error)) throw error;
      logger.warn({ blob: digest, err: error }, 'a blob could not be verified: the next pass tries again');
    } finally {
      // The hash thread must not wait for more bytes.
      if (growth.state === 'growing') growth.finish('failed');
      leaving.abort(new Error('the verification of the blob was stopped'));
    }
  }

  /** Waits as long as `bytes` take at the configured rate. */
  async #pay(bytes: number, pass: { bytes: number }): Promise<void> {
    pass.bytes += bytes;
    this.#deps.events.blobScrubbed(bytes);
    this.#owedMs += (bytes * 1000) / this.#deps.bytesPerSecond;
    if (this.#owedMs < TICK_MS) return;
    const owed = this.#owedMs;
    this.#owedMs = 0;
    await this.#pause(owed, this.#stopping.signal);
  }

  /** Stops at once, even within a blob. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the store is being closed'));
    await this.#over;
  }
}

/** Does not keep the process alive. */
async function pauseIdly(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal, ref: false });
}
