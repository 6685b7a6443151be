import { type Shortage, shortageOf, SHORTAGES } from '../core/system/shortage.ts';
import { Conditions } from './conditions.ts';
import { Descriptors } from './limits/descriptors.ts';
import type { Logger } from './logger.ts';
import type { DropReason } from './limits/drop-reason.ts';
import type { Metrics } from './metrics.ts';
import { WAIT_REASONS, type WaitReason } from './limits/wait-reason.ts';

/** How much of a limit is in use. */
interface Use {
  readonly used: number;
  readonly limit: number;
}

/** A request that waits before it is sent. */
export interface UpstreamWait {
  readonly upstream: string;
  readonly reason: WaitReason;
  /** Subject and cause: `blobs wait for fill.blobs (4)`. */
  readonly words: string;
  /** How long it will wait, if that is known. */
  readonly expectedMs?: number;
}

/** Shorter waits are not logged: a burst is spread. */
const LONG_WAIT_MS = 1_000;

/** Limits that are reached: of the process, and of the configuration. A part of `Events`. */
export class LimitEvents {
  readonly #logger: Logger;
  readonly #metrics: Metrics;
  readonly #conditions: Conditions;
  readonly descriptors = new Descriptors();
  /** Waiting requests by upstream and reason. */
  readonly #waiting = new Map<string, number>();

  constructor(logger: Logger, metrics: Metrics) {
    this.#logger = logger;
    this.#metrics = metrics;
    this.#conditions = new Conditions(logger);
  }

  /** Limits that were reached within the last minute, in words for an operator. */
  get conditions(): readonly string[] {
    return this.#conditions.current;
  }

  /** Counts and logs the shortage that `error` is about, if it is about one. */
  failed(error: unknown): void {
    const what = shortageOf(error);
    if (what === undefined) return;
    this.#metrics.resourceShortages.inc({ what });
    const { limit } = this.descriptors;
    const isOfProcess = what === 'descriptors' && limit !== undefined;
    const cause = error instanceof Error ? error.message : undefined;
    this.#noteShortage(what, isOfProcess ? { used: limit, limit } : undefined, { cause });
  }

  /** A listener closed a new connection at once. */
  connectionDropped(listener: 'listen' | 'admin', reason: DropReason, use: Use): void {
    this.#metrics.connectionsDropped.inc({ listener, reason });
    if (reason === 'descriptors') {
      this.#noteShortage('descriptors', use, { listener, effect: 'new connections are closed' });
      return;
    }
    const key = { connections: 'limits.maxConnections', address: 'limits.maxConnectionsPerAddress' }[reason];
    const text = `${listener}: connections above ${key} (${use.limit}) are closed`;
    this.#conditions.note(`${listener} ${reason}`, text, { listener });
  }

  /** Creates the series of an upstream: alerts see only their increases. */
  upstreamOpened(upstream: string): void {
    for (const reason of WAIT_REASONS) {
      this.#metrics.upstreamRequestsWaiting.set({ upstream, reason }, 0);
      this.#metrics.upstreamWaitSeconds.inc({ upstream, reason }, 0);
    }
  }

  /** Shows a request as waiting until the result is disposed of; logs long waits. */
  requestWaits(wait: UpstreamWait): Disposable {
    const { upstream, reason, expectedMs = 0 } = wait;
    const labels = { upstream, reason };
    const begunAtMs = performance.now();
    this.#change(wait, 1);
    if (expectedMs >= LONG_WAIT_MS) this.#noteWait(wait, expectedMs);
    return {
      [Symbol.dispose]: () => {
        const waitedMs = performance.now() - begunAtMs;
        if (wait.expectedMs === undefined && waitedMs >= LONG_WAIT_MS) this.#noteWait(wait, waitedMs);
        this.#change(wait, -1);
        this.#metrics.upstreamWaitSeconds.inc(labels, waitedMs / 1000);
      },
    };
  }

  #change({ upstream, reason }: UpstreamWait, by: number): void {
    const key = `${upstream} ${reason}`;
    const waiting = (this.#waiting.get(key) ?? 0) + by;
    this.#waiting.set(key, waiting);
    this.#metrics.upstreamRequestsWaiting.set({ upstream, reason }, waiting);
  }

  #noteWait({ upstream, reason, words }: UpstreamWait, ms: number): void {
    const waiting = this.#waiting.get(`${upstream} ${reason}`) ?? 0;
    const text = `upstream ${upstream}: ${words}: ${waiting} wait, the last for ${(ms / 1000).toFixed(1)} s`;
    this.#conditions.note(`${upstream} ${words}`, text, { upstream, reason });
  }

  /** @param problem as `Descriptors.problemFor` says it */
  descriptorsAreFew(problem: string): void {
    this.#logger.warn(problem);
  }

  #noteShortage(what: Shortage, use: Use | undefined, fields: Readonly<Record<string, unknown>>): void {
    const { words, remedy } = SHORTAGES[what];
    const count = use === undefined ? '' : ` (${use.used} of ${use.limit})`;
    this.#conditions.note(what, `${words}${count}: ${remedy}`, { what, ...fields });
  }
}
