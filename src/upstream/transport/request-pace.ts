import type { RequestRates } from '../../config/request-rates.ts';
import { Allowance } from '../../core/work/allowance.ts';
import { SpandrelError } from '../../core/errors.ts';
import type { Events } from '../../telemetry/events.ts';
import type { UpstreamRequestKind } from '../../telemetry/metrics.ts';
import type { Pause } from './backoff-ms.ts';

export interface RequestPaceOptions {
  readonly upstream: string;
  readonly rates: RequestRates;
  /** A request that would wait longer fails. */
  readonly longestWaitMs: number;
  readonly pause: Pause;
  /** Replicas that share the rates, this one included; default one. */
  readonly sharers?: (() => number) | undefined;
  readonly events: Events;
  /** Milliseconds of a clock that only goes forward. */
  readonly now?: (() => number) | undefined;
}

/** Keeps requests to one registry within the configured rates: a burst of one second's worth, then evenly. */
export class RequestPace {
  readonly #options: RequestPaceOptions;
  readonly #now: () => number;
  readonly #allowances = new Map<UpstreamRequestKind, Allowance>();

  constructor(options: RequestPaceOptions) {
    this.#options = options;
    this.#now = options.now ?? (() => performance.now());
    for (const [kind, perSecond] of Object.entries(options.rates) as [
      UpstreamRequestKind,
      number | undefined,
    ][])
      if (perSecond !== undefined) this.#allowances.set(kind, new Allowance(perSecond));
  }

  /**
   * Resolves when a request may be sent. @throws SpandrelError UPSTREAM_THROTTLED; the reason of the signal
   */
  async admit(kind: UpstreamRequestKind, signal: AbortSignal | undefined): Promise<void> {
    const allowance = this.#allowances.get(kind);
    if (allowance === undefined) return;
    const { upstream, rates, longestWaitMs, pause, sharers, events } = this.#options;
    const parts = sharers?.() ?? 1;
    const shared = parts === 1 ? '' : `, shared by ${parts} replicas`;
    const limit = `its requestsPerSecond.${kind} (${rates[kind]}${shared})`;
    const waitMs = allowance.take(this.#now(), longestWaitMs, parts);
    if (waitMs === undefined) {
      const words = `upstream ${upstream}: more ${kind} requests than ${limit} allows`;
      throw new SpandrelError('UPSTREAM_THROTTLED', words);
    }
    if (waitMs === 0) return;
    const words = `${kind} requests wait for ${limit}`;
    using _waits = events.limits.requestWaits({ upstream, reason: 'rate', words, expectedMs: waitMs });
    await pause(waitMs, signal);
  }
}
