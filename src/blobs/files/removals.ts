import type { Logger } from '../../telemetry/logger.ts';

export interface RemovalsOptions {
  readonly logger: Logger;
  /** Time before the first retry; doubles up to a minute. Default one second. */
  readonly firstPauseMs?: number;
}

/** Removes files. Called again after a failure, when the name may have become another file's. */
type Remove = () => Promise<void>;

const FIRST_PAUSE_MS = 1_000;
const MAX_PAUSE_MS = 60_000;
/** Further files stay until the next start, which removes them. */
const MAX_WAITING = 10_000;

/**
 * Removals of files that nobody needs. One that fails, for example on a file system that has become
 * read-only, is tried again with growing pauses, so that no file outlives its owner.
 */
export class Removals implements AsyncDisposable {
  readonly #logger: Logger;
  readonly #firstPauseMs: number;
  readonly #waiting = new Map<string, Remove>();
  #pauseMs: number;
  #timer: NodeJS.Timeout | undefined;
  #retrying: Promise<void> | undefined;
  #isClosed = false;

  constructor({ logger, firstPauseMs = FIRST_PAUSE_MS }: RemovalsOptions) {
    this.#logger = logger;
    this.#firstPauseMs = firstPauseMs;
    this.#pauseMs = firstPauseMs;
  }

  /** Number of removals that are tried again. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /**
   * Removes `path` by `remove`, or by `retry` if that fails. Never rejects.
   * @param retry checks that the file is still not needed; by default `remove`
   */
  async run(path: string, remove: Remove, retry: Remove = remove): Promise<void> {
    try {
      await remove();
    } catch (error) {
      this.#logger.warn({ path, err: error }, 'a file of the store cannot be removed, and is tried again');
      if (this.#isClosed || this.#waiting.size >= MAX_WAITING) return;
      this.#waiting.set(path, retry);
      this.#schedule();
    }
  }

  #schedule(): void {
    if (this.#isClosed || this.#waiting.size === 0) return;
    this.#timer ??= setTimeout(() => {
      this.#retrying = this.#retry();
    }, this.#pauseMs).unref();
  }

  async #retry(): Promise<void> {
    const failed = await this.#tryAll();
    this.#pauseMs = failed ? Math.min(2 * this.#pauseMs, MAX_PAUSE_MS) : this.#firstPauseMs;
    this.#timer = undefined;
    this.#schedule();
  }

  /** @returns true if a file is left */
  async #tryAll(): Promise<boolean> {
    for (const [path, retry] of this.#waiting) {
      try {
        await retry();
        this.#waiting.delete(path);
      } catch (error) {
        this.#logger.debug({ path, err: error }, 'a file of the store still cannot be removed');
      }
    }
    return this.#waiting.size > 0;
  }

  /** Tries once more; the next start removes what is left. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    await this.#retrying;
    await this.#tryAll();
  }
}
