import { setImmediate as nextTurn } from 'node:timers/promises';

/** Documents up to this size are taken apart at once: that takes a millisecond or so. */
export const SMALL_DOCUMENT_BYTES = 64 * 1024;
const SLICE_MS = 5;

/** There is one event loop. */
let last: Promise<unknown> = Promise.resolve();

/**
 * What `work` returns, which takes tens of milliseconds of the event loop. Each has a turn of the loop of its own, in the order of the
 * calls: a burst of them delays everything else by one of them.
 */
export async function inOwnTurn<T>(work: () => T): Promise<T> {
  const before = last;
  const turn = before.then(() => nextTurn()).then(work);
  last = turn.catch(() => undefined);
  return turn;
}

/** What `work` makes of each item, some milliseconds of it in a turn. @throws what `work` throws */
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
