/**
 * Servers that work on a common queue, first come, first served: a thread, a pool of threads, a network card.
 * Work must be given in the order of time, so its end is known when it comes.
 */
export class Station {
  /** When each server has done all that it was given. */
  readonly #freeAt: number[];
  #busySeconds = 0;

  constructor(servers = 1) {
    this.#freeAt = Array.from({ length: servers }, () => 0);
  }

  /** Returns when work that comes now is done. */
  serve(nowSeconds: number, workSeconds: number): number {
    let first = 0;
    for (let server = 1; server < this.#freeAt.length; server++)
      if ((this.#freeAt[server] ?? 0) < (this.#freeAt[first] ?? 0)) first = server;
    const done = Math.max(nowSeconds, this.#freeAt[first] ?? 0) + workSeconds;
    this.#freeAt[first] = done;
    this.#busySeconds += workSeconds;
    return done;
  }

  /** How long work that comes now waits before it begins. */
  waitSeconds(nowSeconds: number): number {
    return Math.max(0, Math.min(...this.#freeAt) - nowSeconds);
  }

  /** Work of all servers so far. */
  get busySeconds(): number {
    return this.#busySeconds;
  }

  get servers(): number {
    return this.#freeAt.length;
  }
}
