import { type ByteCache, type CacheHit, type MakeValue, sealedOnly } from '../../cache/byte-cache.ts';

export interface RecordCacheDeps {
  /** Bounded in time and size. */
  readonly redis: ByteCache | undefined;
  /** Outlives Redis. */
  readonly durable: ByteCache;
}

/**
 * Records as replicas share them: Redis in front of the object store. If Redis is not authentic, records are
 * neither read from it nor written to it.
 */
export class RecordCache implements ByteCache {
  readonly #redis: ByteCache | undefined;
  readonly #durable: ByteCache;

  constructor({ redis, durable }: RecordCacheDeps) {
    this.#redis = sealedOnly(redis);
    this.#durable = durable;
  }

  get isAuthentic(): boolean {
    return this.#durable.isAuthentic;
  }

  async get(key: string): Promise<CacheHit | undefined> {
    const near = await this.#redis?.get(key);
    if (near !== undefined) return near;
    const far = await this.#durable.get(key);
    // The next reader, of any replica, finds it sooner.
    if (far !== undefined) void this.#redis?.set(key, far.bytes);
    return far;
  }

  async set(key: string, bytes: Uint8Array): Promise<void> {
    await Promise.all([this.#redis?.set(key, bytes), this.#durable.set(key, bytes)]);
  }

  async setNew(key: string, bytes: Uint8Array): Promise<CacheHit | undefined> {
    const near = await this.#redis?.setNew(key, bytes);
    if (near !== undefined) return near;
    // Redis may have lost an earlier one.
    const far = await this.#durable.setNew(key, bytes);
    if (far !== undefined) await this.#redis?.set(key, far.bytes);
    return far;
  }

  keep(key: string, make: MakeValue): void {
    this.#durable.keep?.(key, make);
  }

  async delete(key: string): Promise<void> {
    await Promise.all([this.#redis?.delete(key), this.#durable.delete(key)]);
  }
}
