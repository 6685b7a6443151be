import { SpandrelError } from '../errors.ts';

interface Waiting {
  readonly weight: number;
  readonly start: () => void;
  readonly refuse: (error: SpandrelError) => void;
}

/** Fairness key of work that names none. */
const DEFAULT_KEY = '';

/**
 * Limits how much work runs at once and how much waits, counted in tasks or in bytes of memory that they
 * hold. Waiting work is first come, first served within a fairness key, and round-robin across keys.
 */
export class WorkQueue {
  readonly #maxRunning: number;
  readonly #maxWaiting: number;
  /** By fairness key; none is empty. The first key has the next turn. */
  readonly #byKey = new Map<string, Set<Waiting>>();
  #waiting = 0;
  #running = 0;

  constructor({ maxRunning, maxWaiting }: { readonly maxRunning: number; readonly maxWaiting: number }) {
    this.#maxRunning = maxRunning;
    this.#maxWaiting = maxWaiting;
  }

  /** New work has to wait. */
  get isFull(): boolean {
    return this.#running >= this.#maxRunning;
  }

  /** Total weight of the running work. */
  get running(): number {
    return this.#running;
  }

  /** Number of waiting tasks. */
  get waiting(): number {
    return this.#waiting;
  }

  /**
   * Runs `work` when its turn comes. `signal` removes it from the queue, but does not stop it once it runs.
   * @throws SpandrelError OVERLOADED if too much waits and no other fairness key has more waiting work; the
   * reason of the signal
   */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal, fairnessKey?: string): Promise<T> {
    const release = await this.enter(signal, fairnessKey);
    try {
      return await work();
    } finally {
      release();
    }
  }

  /** Rejects all waiting work with `error`. Running work goes on. */
  refuseWaiting(error: SpandrelError): void {
    for (const queue of this.#byKey.values()) for (const waiting of queue) waiting.refuse(error);
  }

  /**
   * As {@link run}, for work that the caller ends: resolves when its turn comes. Call the returned function
   * once when the work is over.
   * @param weight share of `maxRunning`; a greater one counts as all of it
   */
  async enter(signal?: AbortSignal, fairnessKey = DEFAULT_KEY, weight = 1): Promise<() => void> {
    signal?.throwIfAborted();
    const counted = Math.min(weight, this.#maxRunning);
    if (this.#waiting > 0 || !this.#fits(counted)) await this.#wait(signal, fairnessKey, counted);
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

  #wait(signal: AbortSignal | undefined, fairnessKey: string, weight: number): Promise<void> {
    if (this.#waiting >= this.#maxWaiting) this.#makeRoom(fairnessKey);
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#remove(fairnessKey, waiting);
        reject(signal?.reason as Error);
        this.#startNext();
      };
      const end = (): void => {
        this.#remove(fairnessKey, waiting);
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
      const queue = this.#byKey.get(fairnessKey) ?? new Set();
      this.#byKey.set(fairnessKey, queue.add(waiting));
      this.#waiting++;
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /**
   * Refuses the last task of the fairness key with the most waiting tasks, if that has more than
   * `fairnessKey` would. @throws SpandrelError OVERLOADED
   */
  #makeRoom(fairnessKey: string): void {
    let longest = new Set<Waiting>();
    for (const candidate of this.#byKey.values()) if (candidate.size > longest.size) longest = candidate;
    const last = [...longest].at(-1);
    if (last === undefined || longest.size <= (this.#byKey.get(fairnessKey)?.size ?? 0) + 1)
      throw overloaded();
    last.refuse(overloaded());
  }

  #remove(fairnessKey: string, waiting: Waiting): void {
    const queue = this.#byKey.get(fairnessKey);
    if (queue?.delete(waiting) !== true) return;
    this.#waiting--;
    if (queue.size === 0) this.#byKey.delete(fairnessKey);
  }

  /** Frees `weight`. The next fairness key starts its first task and moves to the end of the round. */
  #leave(weight: number): void {
    this.#running -= weight;
    this.#startNext();
  }

  #startNext(): void {
    for (let next = this.#next(); next !== undefined && this.#fits(next.first.weight); next = this.#next()) {
      const { key, queue, first } = next;
      this.#running += first.weight;
      first.start();
      if (this.#byKey.delete(key)) this.#byKey.set(key, queue);
    }
  }

  #next(): { key: string; queue: Set<Waiting>; first: Waiting } | undefined {
    for (const [key, queue] of this.#byKey) for (const first of queue) return { key, queue, first };
    return undefined;
  }
}

function overloaded(): SpandrelError {
  return new SpandrelError('OVERLOADED', 'too much work is waiting');
}
