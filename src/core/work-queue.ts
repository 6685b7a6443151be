import { SpandrelError } from './errors.ts';

interface Waiting {
  readonly start: () => void;
}

/** Lets so much work run at once and so much wait, first come, first served. */
export class WorkQueue {
  readonly #maxRunning: number;
  readonly #maxWaiting: number;
  readonly #waiting = new Set<Waiting>();
  #running = 0;

  constructor({ maxRunning, maxWaiting }: { readonly maxRunning: number; readonly maxWaiting: number }) {
    this.#maxRunning = maxRunning;
    this.#maxWaiting = maxWaiting;
  }

  /**
   * The result of `work`, which is begun when its turn comes. `signal` takes it out of the queue, and ends nothing that has begun.
   * @throws SpandrelError OVERLOADED if too much waits already; the reason of the signal
   */
  async run<T>(work: () => Promise<T>, signal?: AbortSignal): Promise<T> {
    const release = await this.enter(signal);
    try {
      return await work();
    } finally {
      release();
    }
  }

  /** As {@link run}, for work that ends elsewhere: resolves when its turn comes to what is to be called, once, when it is over. */
  async enter(signal?: AbortSignal): Promise<() => void> {
    signal?.throwIfAborted();
    if (this.#running >= this.#maxRunning) await this.#wait(signal);
    else this.#running++;
    let isOver = false;
    return () => {
      if (isOver) return;
      isOver = true;
      this.#leave();
    };
  }

  #wait(signal: AbortSignal | undefined): Promise<void> {
    if (this.#waiting.size >= this.#maxWaiting)
      throw new SpandrelError('OVERLOADED', 'too much work is waiting already');
    return new Promise((resolve, reject) => {
      const onAbort = (): void => {
        this.#waiting.delete(waiting);
        reject(signal?.reason as Error);
      };
      const waiting = {
        start: () => {
          signal?.removeEventListener('abort', onAbort);
          resolve();
        },
      };
      this.#waiting.add(waiting);
      signal?.addEventListener('abort', onAbort, { once: true });
    });
  }

  /** The place of what has ended goes to the first that waits. */
  #leave(): void {
    const [next] = this.#waiting;
    if (next === undefined) {
      this.#running--;
      return;
    }
    this.#waiting.delete(next);
    next.start();
  }
}
