/** The tier that had the entry. */
export type CacheTier = 'memory' | 'redis' | 's3';

export interface CacheHit {
  /** Shared with other readers: must not be modified. */
  readonly bytes: Uint8Array;
  readonly tier: CacheTier;
}

/** A value of an entry, at hand or made again; `undefined` if that is not possible any more. */
export type MakeValue = () => Uint8Array | undefined | Promise<Uint8Array | undefined>;

/**
 * A bounded cache of byte strings, which may lose any entry at any time. A miss is `undefined`. No operation
 * fails if a tier is unreachable. Readers must verify what comes from a shared tier.
 */
export interface ByteCache {
  /** True if only replicas with the same key can have written the values. */
  readonly isAuthentic: boolean;
  get(key: string): Promise<CacheHit | undefined>;
  /** Stores `bytes`. The caller must not modify them afterwards. */
  set(key: string, bytes: Uint8Array): Promise<void>;
  /**
   * As {@link set}, unless there is an entry. @returns the entry that another caller has stored before;
   * `undefined` if `bytes` are stored, or if that is not known
   */
  setNew(key: string, bytes: Uint8Array): Promise<CacheHit | undefined>;
  delete(key: string): Promise<void>;
  /**
   * The entry is in use. A cache that outlives others, which rules empty by age, sees to it in the background
   * that it stays, and stores what `make` returns if it has lost it. Cheap: call it each time.
   */
  keep?(key: string, make: MakeValue): void;
}

/** The cache, if only replicas with the same key can have written its values. */
export function sealedOnly(shared: ByteCache | undefined): ByteCache | undefined {
  return shared?.isAuthentic === true ? shared : undefined;
}
