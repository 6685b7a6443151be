import type { ByteCache, CacheHit } from './byte-cache.ts';

/** Memory before Redis: reads go down until a hit, which is then kept above; writes go to both. */
export class TieredCache implements ByteCache {
  readonly #near: ByteCache;
  readonly #far: ByteCache;

  constructor(near: ByteCache, far: ByteCache) {
    this.#near = near;
    this.#far = far;
  }

  async get(key: string): Promise<CacheHit | undefined> {
    const near = await this.#near.get(key);
    if (near !== undefined) return near;
    const far = await this.#far.get(key);
    if (far !== undefined) await this.#near.set(key, far.bytes);
    return far;
  }

  async set(key: string, bytes: Uint8Array): Promise<void> {
    await Promise.all([this.#near.set(key, bytes), this.#far.set(key, bytes)]);
  }

  async delete(key: string): Promise<void> {
    await Promise.all([this.#near.delete(key), this.#far.delete(key)]);
  }
}
