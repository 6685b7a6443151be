/**
 * Whole milliseconds since 1970 by a clock that was right when the process started and has not been set since: it never goes back.
 * For times that are stored. Ages and deadlines that are not take `performance.now()`.
 */
export function steadyNow(): number {
  return Math.floor(performance.timeOrigin + performance.now());
}

/**
 * How old something is that was stored at `storedAtMs`. What lies in the future was written by a clock that was wrong, or this one is:
 * it is as old as can be.
 */
export function storedAgeMs(storedAtMs: number, nowMs: number): number {
  return storedAtMs <= nowMs ? nowMs - storedAtMs : Infinity;
}
