export interface MapBoundedOptions<R> {
  /** Items that are worked on at the same time. */
  readonly maxRunning: number;
  /** Starts no more; what runs is the business of `work`. */
  readonly signal?: AbortSignal | undefined;
  /** True for a result that makes those of all later items needless: they are left out, and not begun if they have not been yet. */
  readonly isLast?: (result: R) => boolean;
}

/**
 * What `work` makes of each item, in the order of the items. The first failure rejects, and no further item is begun.
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
        const place = next++;
        const result = await work(items[place] as T);
        results[place] = result;
        if (isLast(result)) end = Math.min(end, place + 1);
      }
    } catch (error) {
      end = 0;
      throw error;
    }
  };
  await Promise.all(Array.from({ length: Math.min(maxRunning, items.length) }, runOneByOne));
  return results.slice(0, end);
}
