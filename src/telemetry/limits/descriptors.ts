import { readFileSync } from 'node:fs';

/** The limit of a running process can be changed (prlimit). */
const REMEMBERED_MS = 1_000;
/** Most descriptors that are kept from clients: for files of the store, upstreams and the admin listener. */
const MOST_KEPT = 256;
const KEPT_SHARE = 1 / 8;

/** The file descriptors that this process may have. Known on Linux only. */
export class Descriptors {
  readonly #now: () => number;
  readonly #read: () => string;
  #limit: number | undefined;
  #readAtMs = -Infinity;

  constructor(options: { readonly now?: () => number; readonly read?: () => string } = {}) {
    this.#now = options.now ?? (() => performance.now());
    this.#read = options.read ?? (() => readFileSync('/proc/self/limits', 'latin1'));
  }

  /** Most descriptors that may be open; `undefined` if that is not known, or unlimited. */
  get limit(): number | undefined {
    if (this.#now() - this.#readAtMs < REMEMBERED_MS) return this.#limit;
    this.#readAtMs = this.#now();
    try {
      const [, soft] = /^Max open files +(\d+)/m.exec(this.#read()) ?? [];
      this.#limit = soft === undefined ? undefined : Number(soft);
    } catch {
      // Without a descriptor the file cannot be opened: the last known limit stays.
    }
    return this.#limit;
  }

  /** How many of `limit` descriptors connections of clients leave free. */
  static keptOf(limit: number): number {
    return Math.min(MOST_KEPT, Math.floor(limit * KEPT_SHARE));
  }

  /** What is wrong with the limit for so many connections. */
  problemFor(maxConnections: number): string | undefined {
    const { limit } = this;
    const wanted = maxConnections + MOST_KEPT;
    if (limit === undefined || limit >= wanted) return undefined;
    return (
      `this process may open ${limit} files, and limits.maxConnections (${maxConnections}) with the files ` +
      `of the store wants ${wanted}: raise LimitNOFILE (ulimit -n), or lower limits.maxConnections`
    );
  }
}
