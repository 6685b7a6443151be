import { LRUCache } from 'lru-cache';

import type { Events } from '../telemetry/events.ts';
import type { ByteCache, CacheHit } from './byte-cache.ts';

/** Memory of an entry besides its bytes: key, map slot, list links. */
const ENTRY_OVERHEAD_BYTES = 256;

/** An LRU cache in memory, of at most `maxBytes` with overhead. With 0 it keeps nothing. */
export class MemoryCache implements ByteCache {
  readonly #entries: LRUCache<string, Uint8Array> | undefined;
  readonly #events: Events;
  readonly isAuthentic = true;

  constructor(deps: { maxBytes: number; events: Events }) {
    this.#events = deps.events;
    if (deps.maxBytes === 0) return;
    this.#entries = new LRUCache<string, Uint8Array>({
      maxSize: deps.maxBytes,
      sizeCalculation: (bytes, key) => bytes.byteLength + key.length * 2 + ENTRY_OVERHEAD_BYTES,
      dispose: (_bytes, _key, reason) => {
        if (reason === 'evict') this.#events.evicted('memory');
      },
    });
  }

  /** Bytes held, overhead included. */
  get sizeBytes(): number {
    return this.#entries?.calculatedSize ?? 0;
  }

  get(key: string): Promise<CacheHit | undefined> {
    const bytes = this.#entries?.get(key);
    return Promise.resolve(bytes === undefined ? undefined : { bytes, tier: 'memory' });
  }

  set(key: string, bytes: Uint8Array): Promise<void> {
    // Copy a view: it would keep its whole buffer alive, but count as its own length only.
    const owned = bytes.byteLength === bytes.buffer.byteLength ? bytes : new Uint8Array(bytes);
    this.#entries?.set(key, owned);
    this.#events.memoryCacheChanged(this.sizeBytes);
    return Promise.resolve();
  }

  async setNew(key: string, bytes: Uint8Array): Promise<CacheHit | undefined> {
    if (this.#entries?.has(key) === true) return this.get(key);
    await this.set(key, bytes);
    return undefined;
  }

  delete(key: string): Promise<void> {
    this.#entries?.delete(key);
    this.#events.memoryCacheChanged(this.sizeBytes);
    return Promise.resolve();
  }
}
