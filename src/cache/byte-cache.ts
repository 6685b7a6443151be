/** The tier that an entry was found in. */
export type CacheTier = 'memory' | 'redis';

export interface CacheHit {
  /** Shared with other readers: not to be modified. */
  readonly bytes: Uint8Array;
  readonly tier: CacheTier;
}

/**
 * A bounded store of byte strings that may forget any of them at any time. A miss is `undefined`; no operation fails because
 * a tier is out of reach. Entries are copies nobody depends on: what comes out of a shared tier is to be checked by its reader.
 */
export interface ByteCache {
  /** Only replicas that share this one's configuration can have written the values. */
  readonly isAuthentic: boolean;
  get(key: string): Promise<CacheHit | undefined>;
  /** Keep `bytes`, which the caller must not modify afterwards. */
  set(key: string, bytes: Uint8Array): Promise<void>;
  delete(key: string): Promise<void>;
}
