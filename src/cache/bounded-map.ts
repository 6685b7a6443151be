import { LRUCache } from 'lru-cache';

/** How much a {@link BoundedMap} may hold: entries, or bytes as `sizeOf` counts them. */
export type Bound<V> =
  { readonly maxEntries: number } | { readonly maxBytes: number; readonly sizeOf: (value: V) => number };

/** A map of objects in this process that forgets the least recently used ones beyond its bound. */
export class BoundedMap<V extends object> {
  readonly #entries: LRUCache<string, V>;

  constructor(bound: Bound<V>) {
    this.#entries =
      'maxEntries' in bound
        ? new LRUCache({ max: bound.maxEntries })
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
