/**
 * Milliseconds since 1970, as a whole number, by a monotonic clock: the time of day when the process started
 * plus the time since. For times that are stored. Other ages and deadlines use `performance.now()`.
 */
export function steadyNow(): number {
  return Math.floor(performance.timeOrigin + performance.now());
}

/**
 * Age of an entry stored at `storedAtMs`; `Infinity` if that is in the future, because one of the two clocks
 * is wrong then.
 */
export function storedAgeMs(storedAtMs: number, nowMs: number): number {
  return storedAtMs <= nowMs ? nowMs - storedAtMs : Infinity;
}

/** Clocks of two machines differ by less. */
const CLOCK_SKEW_MS = 60_000;

/** As {@link storedAgeMs}, for a time that another machine noted: a little in the future counts as now. */
export function sharedAgeMs(notedAtMs: number, nowMs: number): number {
  return notedAtMs - CLOCK_SKEW_MS <= nowMs ? Math.max(0, nowMs - notedAtMs) : Infinity;
}

/**
 * The least age of what another machine noted at `notedAtMs`, however wrong the clocks are; `Infinity` if
 * they differ by more than clocks do.
 */
export function leastSharedAgeMs(notedAtMs: number, nowMs: number): number {
  return notedAtMs - CLOCK_SKEW_MS <= nowMs ? Math.max(0, nowMs - notedAtMs - CLOCK_SKEW_MS) : Infinity;
}
