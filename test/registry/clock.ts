import { performance } from 'node:perf_hooks';
import { setTimeout } from 'node:timers/promises';

/** Time as the demo registry sees it; tests put their own in. */
export interface Clock {
  /** Milliseconds since 1970, with fractions; never goes back. */
  now(): number;
  /** Rejects when the signal is aborted. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void>;
}

export function systemClock(): Clock {
  return {
    now: () => performance.timeOrigin + performance.now(),
    sleep: (durationMs, signal) => setTimeout(durationMs, undefined, signal === undefined ? {} : { signal }),
  };
}
