import { BoundedMap } from '../../cache/bounded-map.ts';
import { type Target, targetKey } from '../../upstream/target.ts';
import type { Start } from './start.ts';

const MAX_BYTES = 16 * 2 ** 20;
const MAX_STARTS = 20;
/** About what a start and a read take in memory. */
const START_BYTES = 1024;
const READ_BYTES = 200;
const PATH_BYTES = 16;

/** The last starts of each repository, while this process runs. */
export class RecentStarts {
  readonly #starts = new BoundedMap<readonly Start[]>({ maxBytes: MAX_BYTES, sizeOf: sizeOfStarts });

  /** The newest first. */
  of(target: Target): readonly Start[] {
    return this.#starts.get(targetKey(target)) ?? [];
  }

  add(start: Start): void {
    const before = this.#starts.get(start.repository) ?? [];
    this.#starts.set(start.repository, [start, ...before].slice(0, MAX_STARTS));
  }
}

function sizeOfStarts(starts: readonly Start[]): number {
  return starts.reduce(
    (sum, { reads, servedPaths }) =>
      sum + START_BYTES + READ_BYTES * reads.length + PATH_BYTES * servedPaths.length,
    0,
  );
}
