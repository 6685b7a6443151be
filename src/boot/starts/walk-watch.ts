/** Reads that fill the lowest gap of a layer, one after another, that make a walk. */
const MIN_STEPS = 8;
/** Without a sign in their times: no start reads so much of a layer from its beginning. */
const SURE_STEPS = 64;
/** Reads whose times may look like ticks by chance if the period is short. */
const MIN_SHORT_TICKS = 12;
const SHORT_PERIOD_MS = 100;
/** No fetcher is faster. */
const MIN_PERIOD_MS = 20;
const JITTER_MS = 4;
const JITTER_SHARE = 0.05;
/** Reads of the start may fill gaps too while a fetcher walks. */
const MAX_ODD = 3;
/** A fetcher begins after a silence, which nodes configure; 30 s by default, counted from the last mount. */
const PAUSE_MS = 5_000;
const LATE_MS = 20_000;

/**
 * Notices the background fetcher of a node, which reads the spans of all layers in order: at each tick of its
 * period it takes the first span that the node lacks (soci-snapshotter `fs/backgroundfetcher`). Its reads are
 * not of the start. A start that reads a layer from the beginning on may be taken for a walk: then
 * less is learned.
 */
export class WalkWatch {
  /** Times of the last steps. */
  #steps: number[] = [];
  /** Other reads since the first step. */
  #others = 0;
  #lastMs: number;
  #mountedMs: number;
  /** The steps came after a pause in the node's reads. */
  #isAfterPause = false;

  constructor(atMs: number) {
    this.#lastMs = atMs;
    this.#mountedMs = atMs;
  }

  /** Fetchers pause when a layer is mounted. */
  noteMount(atMs: number): void {
    this.#mountedMs = atMs;
    this.#lastMs = atMs;
    this.#restart(false);
  }

  /**
   * Call for each read.
   * @param isStep it fills the lowest gap of its layer
   * @returns when the walk has begun that this read belongs to
   */
  note(isStep: boolean, atMs: number): number | undefined {
    if (atMs - this.#lastMs >= PAUSE_MS) this.#restart(true);
    this.#lastMs = atMs;
    if (!isStep) {
      this.#others++;
      return undefined;
    }
    const steps = this.#steps;
    steps.push(atMs);
    if (steps.length > SURE_STEPS) steps.shift();
    const [first = atMs] = steps;
    const isLate = this.#isAfterPause || first - this.#mountedMs >= LATE_MS;
    const isMostly = this.#others <= steps.length;
    if (isMostly && (steps.length === SURE_STEPS || (isLate && steps.length >= MIN_STEPS))) return first;
    return findTicks(steps);
  }

  /** When the walk began that the last reads may be, if the reads have ended now. */
  end(): number | undefined {
    return this.#isAfterPause && this.#others === 0 ? this.#steps[0] : undefined;
  }

  #restart(isAfterPause: boolean): void {
    this.#steps = [];
    this.#others = 0;
    this.#isAfterPause = isAfterPause;
  }
}

/** The first tick if the last times are ticks of one clock, some of which may be left out. */
function findTicks(times: readonly number[]): number | undefined {
  for (const [count, periods] of [
    [MIN_STEPS, { min: SHORT_PERIOD_MS, max: Number.POSITIVE_INFINITY }],
    [MIN_SHORT_TICKS, { min: MIN_PERIOD_MS, max: SHORT_PERIOD_MS }],
  ] as const) {
    const last = times.slice(-count);
    if (last.length < count) return undefined;
    const shortest = Math.min(...last.slice(1).map((time, place) => time - (last[place] ?? 0)));
    // All pauses may be of several ticks.
    for (const about of [shortest, shortest / 2]) {
      const periodMs = about >= periods.min && about < periods.max ? periodOf(last, about) : undefined;
      if (periodMs !== undefined) return firstTick(times, periodMs);
    }
  }
  return undefined;
}

/** The period of the clock whose ticks the times are, if they are. */
function periodOf(times: readonly number[], aboutMs: number): number | undefined {
  const [first = 0] = times;
  let periodMs = aboutMs;
  for (const time of times.slice(1)) {
    const ticks = Math.round((time - first) / periodMs);
    if (ticks === 0 || !isTick(time - first, periodMs)) return undefined;
    periodMs = (time - first) / ticks;
  }
  return periodMs;
}

/** The first tick before the last time, with at most {@link MAX_ODD} other times in a row after it. */
function firstTick(times: readonly number[], periodMs: number): number | undefined {
  let first = times.at(-1);
  let odd = 0;
  for (const time of times.toReversed()) {
    if (first !== undefined && isTick(first - time, periodMs)) [first, odd] = [time, 0];
    else if (++odd > MAX_ODD) break;
  }
  return first;
}

function isTick(elapsedMs: number, periodMs: number): boolean {
  const lateMs = elapsedMs - Math.round(elapsedMs / periodMs) * periodMs;
  return Math.abs(lateMs) <= Math.max(JITTER_MS, periodMs * JITTER_SHARE);
}
