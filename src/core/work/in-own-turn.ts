import { setImmediate as nextTurn } from 'node:timers/promises';

/** Documents up to this size are parsed at once, which takes about a millisecond. */
export const SMALL_DOCUMENT_BYTES = 64 * 1024;
const SLICE_MS = 5;

/** One queue for the whole process, because there is one event loop. */
let last: Promise<unknown> = Promise.resolve();

/**
 * Runs synchronous `work` that takes tens of milliseconds, in its own turn of the event loop. Calls run in
 * order, one a turn, so a burst delays other work by one call at most.
 */
export async function inOwnTurn<T>(work: () => T): Promise<T> {
  const before = last;
  const turn = before.then(() => nextTurn()).then(work);
  last = turn.catch(() => undefined);
  return turn;
}

/**
 * Maps `items` in slices of a few milliseconds, each in its own turn of the event loop. @throws what `work`
 * throws
 */
export async function mapInTurns<T, R>(items: readonly T[], work: (item: T) => R): Promise<R[]> {
  const results: R[] = [];
  while (results.length < items.length) {
    await inOwnTurn(() => {
      const endMs = performance.now() + SLICE_MS;
      do results.push(work(items[results.length] as T));
      while (results.length < items.length && performance.now() < endMs);
    });
  }
  return results;
}
