export interface MapBoundedOptions<R> {
  /** Items in progress at the same time. */
  readonly maxRunning: number;
  /** Stops starting items. `work` itself must stop the ones in progress. */
  readonly signal?: AbortSignal | undefined;
  /**
   * True if the results of all later items are not needed: they are dropped, and items that have not started
   * are skipped.
   */
  readonly isLast?: (result: R) => boolean;
}

/**
 * Maps `items` with bounded concurrency; the results are in the order of the items. After the first failure
 * no further item starts.
 * @throws what `work` throws; the reason of the signal
 */
export async function mapBounded<T, R>(
  items: readonly T[],
  work: (item: T) => Promise<R>,
  { maxRunning, signal, isLast = () => false }: MapBoundedOptions<R>,
): Promise<R[]> {
  const results: R[] = [];
  let next = 0;
  let end = items.length;
  const runOneByOne = async (): Promise<void> => {
    try {
      while (next < end) {
        signal?.throwIfAborted();
        const index = next++;
        const result = await work(items[index] as T);
        results[index] = result;
        if (isLast(result)) end = Math.min(end, index + 1);
      }
    } catch (error) {
      end = 0;
      throw error;
    }
  };
  await Promise.all(Array.from({ length: Math.min(maxRunning, items.length) }, runOneByOne));
  return results.slice(0, end);
}
