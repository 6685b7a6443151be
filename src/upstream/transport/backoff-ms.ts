import { setTimeout as sleep } from 'node:timers/promises';

/** Waits for `delayMs`; tests replace it. Rejects with the signal's reason if it aborts. */
export type Pause = (delayMs: number, signal: AbortSignal | undefined) => Promise<void>;

const FIRST_DELAY_MS = 200;
const LONGEST_DELAY_MS = 10_000;

/** Delay before a retry, in ms: exponential backoff with full jitter. `attempt` counts from 0. */
export function backoffMs(attempt: number, random: () => number = Math.random): number {
  return Math.round(random() * Math.min(LONGEST_DELAY_MS, FIRST_DELAY_MS * 2 ** attempt));
}

// The three forms of a date, RFC 9110, section 5.6.7: IMF-fixdate and the two obsolete ones.
const HTTP_DATE = new RegExp(
  [
    String.raw`^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$`,
    String.raw`^[A-Z][a-z]{5,8}, \d{2}-[A-Z][a-z]{2}-\d{2} \d{2}:\d{2}:\d{2} GMT$`,
    String.raw`^[A-Z][a-z]{2} [A-Z][a-z]{2} [ \d]\d \d{2}:\d{2}:\d{2} \d{4}$`,
  ].join('|'),
);

/**
 * Parses Retry-After, seconds or a date: RFC 9110, section 10.2.3. `undefined` if it is neither; `Infinity`
 * for too many seconds to represent.
 */
export function parseRetryAfterMs(header: string | string[] | undefined, nowMs: number): number | undefined {
  const text = textOf(header);
  if (/^\d+$/.test(text)) return Number(text) * 1000;
  const date = parseHttpDateMs(text);
  return date === undefined ? undefined : Math.max(0, date - nowMs);
}

/**
 * Parses an HTTP date to milliseconds of the epoch. The form is checked because `Date.parse` accepts `-5` as
 * a month.
 */
export function parseHttpDateMs(header: string | string[] | undefined): number | undefined {
  const text = textOf(header);
  if (!HTTP_DATE.test(text)) return undefined;
  const date = Date.parse(text.endsWith('GMT') ? text : `${text} GMT`);
  return Number.isNaN(date) ? undefined : date;
}

function textOf(header: string | string[] | undefined): string {
  return (typeof header === 'string' ? header : (header?.[0] ?? '')).trim();
}

export const realPause: Pause = async (delayMs, signal) => {
  try {
    await sleep(delayMs, undefined, signal === undefined ? {} : { signal });
  } catch (error) {
    signal?.throwIfAborted();
    throw error;
  }
};
