import { SpandrelError } from '../errors.ts';

interface Waiting {
  readonly weight: number;
  readonly start: () => void;
  readonly refuse: (error: SpandrelError) => void;
}

/** Whoever asks for no line of his own waits in this one. */
const COMMON_LINE = '';

/**
 * Lets so much work run at once and so much wait: pieces of work, or bytes of memory that they hold. What waits stands in lines, each first come, first served; the lines take turns, so that
 * nobody waits behind all that somebody else has asked for.
 */
export class WorkQueue {
  readonly #maxRunning: number;
  readonly #maxWaiting: number;
  /** None is empty; the first has the next turn. */
  readonly #lines = new Map<string, Set<Waiting>>();
  #waiting = 0;
  #running = 0;

  constructor({ maxRunning, maxWaiting }: { readonly maxRunning: number; readonly maxWaiting: number }) {
    this.#maxRunning = maxRunning;
    this.#maxWaiting = maxWaiting;
  }

  /** Whatever comes now has to wait. */
  get isFull(): boolean {
    return this.#running >= this.#maxRunning;
  }

  /** The weight of the work that has begun and is not over. */
  get running(): number {
    return this.#running;
  }

  /** Work that waits for its turn. */
  get waiting(): number {
    return this.#waiting;
  }

  /**
   * The result of `work`, which is begun when its turn comes. `signal` takes it out of the queue, and ends nothing that has begun.
   * @throws SpandrelError OVERLOADED if too much waits, and no line is longer than this one; the reason of the signal
   */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal, line?: string): Promise<T> {
    const release = await this.enter(signal, line);
    try {
      return await work();
    } finally {
      release();
    }
  }

  /** All that waits rejects with `error`; what runs goes on. */
  refuseWaiting(error: SpandrelError): void {
    for (const line of this.#lines.values()) for (const waiting of line) waiting.refuse(error);
  }

  /**
   * As {@link run}, for work that ends elsewhere: resolves when its turn comes to what is to be called, once, when it is over.
   * @param weight of `maxRunning`; one that is greater than that has all of it
   */
  async enter(signal?: AbortSignal, line = COMMON_LINE, weight = 1): Promise<() => void> {
    signal?.throwIfAborted();
    const counted = Math.min(weight, this.#maxRunning);
    if (this.#waiting > 0 || !this.#fits(counted)) await this.#wait(signal, line, counted);
    else this.#running += counted;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#leave(counted);
    };
  }

  #fits(weight: number): boolean {
    return this.#running + weight <= this.#maxRunning;
  }

  #wait(signal: AbortSignal | undefined, line: string, weight: number): Promise<void> {
    if (this.#waiting >= this.#maxWaiting) this.#makeRoom(line);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#remove(line, waiting);
        reject(signal?.reason as Error);
        this.#startNext();
      };
      const end = (): void => {
        this.#remove(line, waiting);
        signal?.removeEventListener('abort', onAbort);
      };
      const waiting = {
        weight,
        start: () => {
          end();
          resolve();
        },
        refuse: (error: SpandrelError) => {
          end();
          reject(error);
        },
      };
      const inLine = this.#lines.get(line) ?? new Set();
      this.#lines.set(line, inLine.add(waiting));
      this.#waiting++;
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** The last of the longest line goes, if that is longer than `line` would be. @throws SpandrelError OVERLOADED */
  #makeRoom(line: string): void {
    let longest = new Set<Waiting>();
    for (const candidate of this.#lines.values()) if (candidate.size > longest.size) longest = candidate;
    const last = [...longest].at(-1);
    if (last === undefined || longest.size <= (this.#lines.get(line)?.size ?? 0) + 1) throw overloaded();
    last.refuse(overloaded());
  }

  #remove(line: string, waiting: Waiting): void {
    const inLine = this.#lines.get(line);
    if (inLine?.delete(waiting) !== true) return;
    this.#waiting--;
    if (inLine.size === 0) this.#lines.delete(line);
  }

  /** What has ended makes room for the first of the next line, which then has the last turn, and for more if it is room enough. */
  #leave(weight: number): void {
    this.#running -= weight;
    this.#startNext();
  }

  #startNext(): void {
    for (let next = this.#next(); next !== undefined && this.#fits(next.first.weight); next = this.#next()) {
      const { line, inLine, first } = next;
      this.#running += first.weight;
      first.start();
      if (this.#lines.delete(line)) this.#lines.set(line, inLine);
    }
  }

  #next(): { line: string; inLine: Set<Waiting>; first: Waiting } | undefined {
    for (const [line, inLine] of this.#lines) for (const first of inLine) return { line, inLine, first };
    return undefined;
  }
}

function overloaded(): SpandrelError {
  return new SpandrelError('OVERLOADED', 'too much work is waiting already');
}
