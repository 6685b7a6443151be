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
