import { setTimeout as sleep } from 'node:timers/promises';

/** Waits; the seam where tests take the time out of retries. Rejects with the signal's reason when that is aborted. */
export type Pause = (delayMs: number, signal: AbortSignal | undefined) => Promise<void>;

const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 10_000;

/** Exponential backoff with full jitter; `attempt` counts from 0. */
export function backoffMs(attempt: number, random: () => number = Math.random): number {
  return Math.round(random() * Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt));
}

/** RFC 9110, section 10.2.3: seconds or a date. `undefined` if it says neither. */
export function parseRetryAfterMs(header: string | string[] | undefined, nowMs: number): number | undefined {
  if (typeof header !== 'string') return undefined;
  const text = header.trim();
  if (/^\d{1,9}$/.test(text)) return Number(text) * 1000;
  const date = Date.parse(text);
  return Number.isNaN(date) ? undefined : Math.max(0, date - nowMs);
}

export const realPause: Pause = async (delayMs, signal) => {
  try {
    await sleep(delayMs, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
};
