import { LRUCache } from 'lru-cache';

/** The size limit of a {@link BoundedMap}: a number of entries, or bytes as `sizeOf` counts them. */
export type Bound<V> =
  { readonly maxEntries: number } | { readonly maxBytes: number; readonly sizeOf: (value: V) => number };

/** A map that evicts its least recently used entries beyond its bound. */
export class BoundedMap<V extends object> {
  readonly #entries: LRUCache<string, V>;

  constructor(bound: Bound<V>) {
    // With `max`, lru-cache allocates room for all entries at once: megabytes for maps that stay small.
    this.#entries =
      'maxEntries' in bound
        ? new LRUCache({ maxSize: bound.maxEntries, sizeCalculation: () => 1 })
        : new LRUCache({
            maxSize: Math.max(1, bound.maxBytes),
            sizeCalculation: (value) => Math.max(1, bound.sizeOf(value)),
          });
  }

  get(key: string): V | undefined {
    return this.#entries.get(key);
  }

  set(key: string, value: V): void {
    this.#entries.set(key, value);
  }

  delete(key: string): void {
    this.#entries.delete(key);
  }

  /** Most recently used first. */
  values(): Iterable<V> {
    return this.#entries.values();
  }
}
