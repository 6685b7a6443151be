import type { Logger } from './logger.ts';

/** A condition is logged at most once in this time, and shown for this time after it was last met. */
const PAUSE_MS = 60_000;

interface Condition {
  text: string;
  loggedAtMs: number;
  metAtMs: number;
  /** How often it was met since it was logged. */
  times: number;
}

/**
 * What goes on for a while and is met again and again, such as a limit that is reached: one log line a
 * minute, and a warning of `/readyz` until a minute after it was last met.
 */
export class Conditions {
  readonly #logger: Logger;
  readonly #now: () => number;
  readonly #known = new Map<string, Condition>();

  /** @param now milliseconds of a clock that only goes forward */
  constructor(logger: Logger, now: () => number = () => performance.now()) {
    this.#logger = logger;
    this.#now = now;
  }

  /** @param key of a closed set: names of limits, of upstreams and of kinds of requests */
  note(key: string, text: string, fields: Readonly<Record<string, unknown>>): void {
    const nowMs = this.#now();
    const known = this.#known.get(key) ?? { text, loggedAtMs: -Infinity, metAtMs: nowMs, times: 0 };
    this.#known.set(key, known);
    known.text = text;
    known.metAtMs = nowMs;
    known.times++;
    if (nowMs - known.loggedAtMs < PAUSE_MS) return;
    this.#logger.warn({ ...fields, times: known.times }, text);
    known.loggedAtMs = nowMs;
    known.times = 0;
  }

  /** Texts of the conditions that were met within the last minute. */
  get current(): readonly string[] {
    const nowMs = this.#now();
    return [...this.#known.values()]
      .filter(({ metAtMs }) => nowMs - metAtMs < PAUSE_MS)
      .map(({ text }) => text);
  }
}
