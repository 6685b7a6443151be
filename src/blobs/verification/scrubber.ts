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
  /** Waits; rejects when the signal is aborted. The seam where tests take the time out of it. */
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

/** The scrub as `/api/v1/blobs` shows it. */
export interface ScrubState {
  readonly bytesPerSecond: number;
  /** The pass that is under way, so far. */
  readonly running?: Omit<ScrubPass, 'finishedAtMs'>;
  readonly lastPass?: ScrubPass;
}

/** So much of the rate is read at once. */
const TICK_MS = 100;
/** A store that is read in less is left alone for the rest. */
const MIN_PASS_MS = 2_000;
/** Blobs that are to come before the others; who asks for more has to wait for their turn. */
const MAX_PREFERRED = 1_000;

/**
 * Verifies the blobs of the store again and again in the background, so many bytes a second: the one whose verification is longest ago
 * first, or, where the last process ended in disorder, the one that was used last. Neither keeps a blob from being evicted nor counts
 * as a use of it.
 */
export class Scrubber implements AsyncDisposable {
  readonly #deps: ScrubberDeps;
  readonly #pause: NonNullable<ScrubSettings['pause']>;
  readonly #stopping = new AbortController();
  readonly #preferred = new Set<Digest>();
  /** Time that what has been read may take and has not taken yet. */
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

  /** Verify a blob before those whose turn it is. */
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
        this.#deps.logger.error({ err: error }, 'the scrub of the store has ended');
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
      logger.warn({ blob: digest, err: error }, 'a blob could not be verified, it will be tried again');
    } finally {
      // The thread that hashes must not wait for more.
      if (growth.state === 'growing') growth.finish('failed');
      leaving.abort(new Error('the blob is not verified to its end'));
    }
  }

  /** Wait as long as so many bytes may take. */
  async #pay(bytes: number, pass: { bytes: number }): Promise<void> {
    pass.bytes += bytes;
    this.#deps.events.blobScrubbed(bytes);
    this.#owedMs += (bytes * 1000) / this.#deps.bytesPerSecond;
    if (this.#owedMs < TICK_MS) return;
    const owed = this.#owedMs;
    this.#owedMs = 0;
    await this.#pause(owed, this.#stopping.signal);
  }

  /** Ends in the middle of a blob. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#stopping.abort(new Error('the store is being closed'));
    await this.#over;
  }
}

/** Keeps no process alive. */
async function pauseIdly(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal, ref: false });
}
